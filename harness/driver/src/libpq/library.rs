//! A libpq.so loaded at run time, and safe handles to its connections.
//!
//! This is the one place where the client's C interface is called. Everything that leaves this module is owned Rust data.

#![expect(unsafe_code, reason = "libpq and OpenSSL are C libraries, loaded at run time: every call to them is unsafe")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// A library could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It could not be loaded.
    #[error("could not load {path}: {source}; is it a libpq of this machine's architecture, with the libraries it needs beside it?", path = path.display())]
    Load {
        /// What was given to dlopen(3).
        path: PathBuf,
        /// What the dynamic loader says.
        source: libloading::Error,
    },
    /// It has no such function.
    #[error("{path} has no `{symbol}`: {source}; is it a libpq of PostgreSQL 9.5 or newer?", path = path.display())]
    Symbol {
        /// A library that was loaded.
        path: PathBuf,
        /// A function of libpq-fe.h.
        symbol: &'static str,
        /// What the dynamic loader says.
        source: libloading::Error,
    },
}

#[repr(C)]
struct PgConn {
    _opaque: [u8; 0],
}

#[repr(C)]
struct PgResult {
    _opaque: [u8; 0],
}

type TextOfConn = unsafe extern "C" fn(*const PgConn) -> *const c_char;
type IntOfConn = unsafe extern "C" fn(*const PgConn) -> c_int;
type IntOfConnMut = unsafe extern "C" fn(*mut PgConn) -> c_int;

/// Signatures are those of `libpq-fe.h`, the same since PostgreSQL 9.5.
struct Functions {
    connect_start_params: unsafe extern "C" fn(*const *const c_char, *const *const c_char, c_int) -> *mut PgConn,
    connect_poll: IntOfConnMut,
    finish: unsafe extern "C" fn(*mut PgConn),
    status: IntOfConn,
    error_message: TextOfConn,
    socket: IntOfConn,
    ssl_in_use: IntOfConnMut,
    ssl_attribute: unsafe extern "C" fn(*mut PgConn, *const c_char) -> *const c_char,
    ssl_struct: unsafe extern "C" fn(*mut PgConn, *const c_char) -> *mut c_void,
    send_query: unsafe extern "C" fn(*mut PgConn, *const c_char) -> c_int,
    consume_input: IntOfConnMut,
    is_busy: IntOfConnMut,
    get_result: unsafe extern "C" fn(*mut PgConn) -> *mut PgResult,
    result_status: unsafe extern "C" fn(*const PgResult) -> c_int,
    result_error_message: TextOfResult,
    result_error_field: unsafe extern "C" fn(*const PgResult, c_int) -> *const c_char,
    rows: unsafe extern "C" fn(*const PgResult) -> c_int,
    columns: unsafe extern "C" fn(*const PgResult) -> c_int,
    is_null: unsafe extern "C" fn(*const PgResult, c_int, c_int) -> c_int,
    value: unsafe extern "C" fn(*const PgResult, c_int, c_int) -> *const c_char,
    clear: unsafe extern "C" fn(*mut PgResult),
}

type TextOfResult = unsafe extern "C" fn(*const PgResult) -> *const c_char;

/// OpenSSL's, found among libpq's dependencies. Absent where libpq uses another TLS library or none.
struct OpenSsl {
    /// `SSL_get1_peer_certificate` (3.0) or `SSL_get_peer_certificate` (before): both give a reference of ours.
    peer_certificate: unsafe extern "C" fn(*const c_void) -> *mut c_void,
    encode_certificate: unsafe extern "C" fn(*const c_void, *mut *mut u8) -> c_int,
    free_certificate: unsafe extern "C" fn(*mut c_void),
}

/// A libpq that stays loaded as long as this lives, with the OpenSSL that it uses itself.
pub(super) struct Libpq {
    functions: Functions,
    openssl: Option<OpenSsl>,
    version: u32,
    tls_library: Option<String>,
    // Last: the functions above point into it.
    _library: libloading::Library,
}

impl Libpq {
    /// Loads the library with whatever it depends on.
    pub(super) fn load(path: &Path) -> Result<Self, LibraryError> {
        // SAFETY: the initialisers of a libpq and of its dependencies run; the caller chose the file to be one. It is loaded before any
        // thread is started.
        let library = unsafe { libloading::Library::new(path) };
        let library = library.map_err(|source| LibraryError::Load { path: path.to_path_buf(), source })?;
        let symbol_error = |symbol| move |source| LibraryError::Symbol { path: path.to_path_buf(), symbol, source };
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the type is the one that libpq-fe.h declares for this name; the pointer does not outlive `library`, which is
                // moved into the same struct.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }.map_err(symbol_error($name))?
            };
        }
        let functions = Functions {
            connect_start_params: function!("PQconnectStartParams"),
            connect_poll: function!("PQconnectPoll"),
            finish: function!("PQfinish"),
            status: function!("PQstatus"),
            error_message: function!("PQerrorMessage"),
            socket: function!("PQsocket"),
            ssl_in_use: function!("PQsslInUse"),
            ssl_attribute: function!("PQsslAttribute"),
            ssl_struct: function!("PQsslStruct"),
            send_query: function!("PQsendQuery"),
            consume_input: function!("PQconsumeInput"),
            is_busy: function!("PQisBusy"),
            get_result: function!("PQgetResult"),
            result_status: function!("PQresultStatus"),
            result_error_message: function!("PQresultErrorMessage"),
            result_error_field: function!("PQresultErrorField"),
            rows: function!("PQntuples"),
            columns: function!("PQnfields"),
            is_null: function!("PQgetisnull"),
            value: function!("PQgetvalue"),
            clear: function!("PQclear"),
        };
        let lib_version: unsafe extern "C" fn() -> c_int = function!("PQlibVersion");
        // SAFETY: it takes nothing and reads a constant.
        let version = u32::try_from(unsafe { lib_version() }).unwrap_or_default();
        let openssl = OpenSsl::find(&library);
        let tls_library = openssl_version(&library);
        Ok(Self { functions, openssl, version, tls_library, _library: library })
    }

    /// What `PQlibVersion` says, such as 170006 for 17.6.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// What OpenSSL says of itself, such as `OpenSSL 3.0.17 1 Jul 2025`.
    pub(super) fn tls_library(&self) -> Option<&str> {
        self.tls_library.as_deref()
    }

    /// `PQconnectStartParams`; `None` if libpq has no memory for a connection.
    pub(super) fn start(&self, options: &[(&'static CStr, CString)]) -> Option<Connection<'_>> {
        let mut names: Vec<*const c_char> = options.iter().map(|(name, _)| name.as_ptr()).collect();
        let mut values: Vec<*const c_char> = options.iter().map(|(_, value)| value.as_ptr()).collect();
        names.push(std::ptr::null());
        values.push(std::ptr::null());
        // SAFETY: two null-terminated arrays of equal length, whose strings live until the call is over; libpq copies them.
        let raw = unsafe { (self.functions.connect_start_params)(names.as_ptr(), values.as_ptr(), 0) };
        NonNull::new(raw).map(|raw| Connection { library: self, raw })
    }
}

impl OpenSsl {
    fn find(library: &libloading::Library) -> Option<Self> {
        // SAFETY: the types are those of OpenSSL's ssl.h and x509.h. `dlsym` on libpq's handle looks through its dependencies, so that these
        // are the functions which libpq itself uses; the pointers live as long as the library.
        unsafe {
            let peer = library.get(b"SSL_get1_peer_certificate\0").or_else(|_| library.get(b"SSL_get_peer_certificate\0"));
            Some(Self {
                peer_certificate: *peer.ok()?,
                encode_certificate: *library.get(b"i2d_X509\0").ok()?,
                free_certificate: *library.get(b"X509_free\0").ok()?,
            })
        }
    }
}

fn openssl_version(library: &libloading::Library) -> Option<String> {
    type Version = unsafe extern "C" fn(c_int) -> *const c_char;
    type Number = unsafe extern "C" fn() -> std::ffi::c_ulong;
    // SAFETY: the types are those of OpenSSL's crypto.h; argument 0 asks for the version text, which is static.
    unsafe {
        if let Ok(version) = library.get::<Version>(b"OpenSSL_version\0").or_else(|_| library.get::<Version>(b"SSLeay_version\0")) {
            return text(version(0));
        }
        let number = library.get::<Number>(b"OpenSSL_version_num\0").ok()?();
        Some(format!("OpenSSL {number:#x}"))
    }
}

/// Copies a C string; `None` for a null pointer. Bytes that are not UTF-8 are replaced.
///
/// # Safety
/// `pointer` is null or points to a NUL-terminated string that lives during the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: what the caller promises.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// `ConnStatusType`, as far as a connection's progress needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// The connection failed, or never began: `CONNECTION_BAD`.
    Bad,
    /// Waiting for the socket to connect.
    Started,
    /// Connected, or TLS is established: about to send.
    Made,
    /// SSLRequest is sent, or the handshake goes on.
    SslStartup,
    /// The startup packet is sent.
    AwaitingResponse,
    /// Authentication is over, or anything later.
    Later,
}

impl Status {
    fn from_raw(raw: c_int) -> Self {
        // The numbers of ConnStatusType in libpq-fe.h; new ones are only added at the end.
        match raw {
            1 => Self::Bad,
            2 => Self::Started,
            3 => Self::Made,
            4 => Self::AwaitingResponse,
            7 => Self::SslStartup,
            _ => Self::Later,
        }
    }
}

/// What a step of connecting asks for next: `PostgresPollingStatusType` of libpq-fe.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    /// It is over: the connection's message tells why.
    Failed,
    /// Wait until the socket is readable.
    Reading,
    /// Wait until the socket is writable.
    Writing,
    /// The session is ready.
    Ready,
}

/// A connection of libpq; dropping it closes it.
pub(super) struct Connection<'a> {
    library: &'a Libpq,
    raw: NonNull<PgConn>,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // SAFETY: the connection is ours and not used after this.
        unsafe { (self.library.functions.finish)(self.raw.as_ptr()) }
    }
}

// SAFETY: libpq keeps nothing of a connection in its thread, and may use it from any, as long as only one does at a time (manual, "Behavior
// in Threaded Programs"): whoever owns it, since it is not `Sync`. The library behind it is only read.
unsafe impl Send for Connection<'_> {}

// In all of these methods: `self.raw` is a live connection that no other thread uses at this time (`Connection` is not `Sync`), and
// returned strings are copied before the next call.
impl<'a> Connection<'a> {
    /// How far the connection is: `PQstatus`.
    pub(super) fn status(&self) -> Status {
        // SAFETY: see above.
        Status::from_raw(unsafe { (self.library.functions.status)(self.raw.as_ptr()) })
    }

    /// Takes one step of connecting: `PQconnectPoll`. Blocks on nothing but name lookups, which no request needs.
    pub(super) fn poll(&mut self) -> Polled {
        // SAFETY: see above.
        match unsafe { (self.library.functions.connect_poll)(self.raw.as_ptr()) } {
            1 => Polled::Reading,
            2 => Polled::Writing,
            3 => Polled::Ready,
            _ => Polled::Failed,
        }
    }

    /// The connection's last error, with its line end: `PQerrorMessage`. Empty if there was none.
    pub(super) fn message(&self) -> String {
        // SAFETY: see above.
        unsafe { text((self.library.functions.error_message)(self.raw.as_ptr())) }.unwrap_or_default()
    }

    /// `PQsocket`, if there is one. It may be another one after each [`Self::poll`].
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: see above.
        let raw: RawFd = unsafe { (self.library.functions.socket)(self.raw.as_ptr()) };
        // SAFETY: libpq keeps a socket open until its next call for this connection; calls that close it take `&mut self`.
        (raw >= 0).then(|| unsafe { BorrowedFd::borrow_raw(raw) })
    }

    /// Whether TLS is in use, or its handshake under way: `PQsslInUse`.
    pub(super) fn tls(&self) -> bool {
        // SAFETY: see above.
        unsafe { (self.library.functions.ssl_in_use)(self.raw.as_ptr()) != 0 }
    }

    /// `PQsslAttribute`; `None` also for the empty string, by which libpq says "none agreed on".
    pub(super) fn tls_attribute(&self, name: &CStr) -> Option<String> {
        // SAFETY: see above; `name` ends in NUL.
        unsafe { text((self.library.functions.ssl_attribute)(self.raw.as_ptr(), name.as_ptr())) }.filter(|value| !value.is_empty())
    }

    /// The DER of the certificate that the server presented.
    pub(super) fn server_certificate(&self) -> Option<Vec<u8>> {
        let openssl = self.library.openssl.as_ref()?;
        // SAFETY: `PQsslStruct(.., "OpenSSL")` gives the connection's `SSL *` or null. The certificate is a reference of ours, freed below;
        // with a null output pointer `i2d_X509` only tells the length, and with a buffer it writes that many bytes.
        unsafe {
            let ssl = (self.library.functions.ssl_struct)(self.raw.as_ptr(), c"OpenSSL".as_ptr());
            if ssl.is_null() {
                return None;
            }
            let certificate = (openssl.peer_certificate)(ssl);
            if certificate.is_null() {
                return None;
            }
            let length = (openssl.encode_certificate)(certificate, std::ptr::null_mut());
            let mut der = vec![0_u8; usize::try_from(length).unwrap_or_default()];
            let mut cursor = der.as_mut_ptr();
            let written = if der.is_empty() { 0 } else { (openssl.encode_certificate)(certificate, &raw mut cursor) };
            (openssl.free_certificate)(certificate);
            (written > 0 && written == length).then_some(der)
        }
    }

    /// `PQsendQuery`; false if it could not be sent.
    pub(super) fn send_query(&mut self, query: &CStr) -> bool {
        // SAFETY: see above; `query` ends in NUL.
        unsafe { (self.library.functions.send_query)(self.raw.as_ptr(), query.as_ptr()) != 0 }
    }

    /// `PQconsumeInput`; false if the connection broke.
    pub(super) fn consume_input(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.library.functions.consume_input)(self.raw.as_ptr()) != 0 }
    }

    /// `PQisBusy`: the result is not complete yet.
    pub(super) fn is_busy(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.library.functions.is_busy)(self.raw.as_ptr()) != 0 }
    }

    /// `PQgetResult`; `None` when the query is over.
    pub(super) fn result(&mut self) -> Option<QueryResult<'a>> {
        // SAFETY: see above.
        let raw = unsafe { (self.library.functions.get_result)(self.raw.as_ptr()) };
        NonNull::new(raw).map(|raw| QueryResult { functions: &self.library.functions, raw })
    }
}

/// A query that gave no row, in libpq's words.
#[derive(Debug)]
pub(super) struct NoRow {
    /// `PQresultErrorMessage`; empty where the query succeeded and found nothing.
    pub(super) text: String,
    /// The error's SQLSTATE, where the server gave one.
    pub(super) sqlstate: Option<String>,
}

/// A query's result; dropping it frees it.
pub(super) struct QueryResult<'a> {
    functions: &'a Functions,
    raw: NonNull<PgResult>,
}

impl Drop for QueryResult<'_> {
    fn drop(&mut self) {
        // SAFETY: the result is ours and not used after this.
        unsafe { (self.functions.clear)(self.raw.as_ptr()) }
    }
}

impl QueryResult<'_> {
    /// The first row's columns, null as `None`.
    ///
    /// # Errors
    /// [`NoRow`].
    pub(super) fn row(&self) -> Result<Vec<Option<String>>, NoRow> {
        // PGRES_TUPLES_OK and PG_DIAG_SQLSTATE in libpq-fe.h and postgres_ext.h.
        const TUPLES_OK: c_int = 2;
        const SQLSTATE: c_int = b'C' as c_int;
        let result = self.raw.as_ptr();
        // SAFETY: `result` is a live result; row 0 and the columns below the count exist, as the calls before have said.
        unsafe {
            if (self.functions.result_status)(result) != TUPLES_OK || (self.functions.rows)(result) < 1 {
                let message = text((self.functions.result_error_message)(result)).unwrap_or_default();
                return Err(NoRow { text: message, sqlstate: text((self.functions.result_error_field)(result, SQLSTATE)) });
            }
            let value = |column| {
                let null = (self.functions.is_null)(result, 0, column) != 0;
                if null { None } else { text((self.functions.value)(result, 0, column)) }
            };
            Ok((0..(self.functions.columns)(result)).map(value).collect())
        }
    }
}
