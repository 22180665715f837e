//! Standard output, which whoever reads it may close when he has seen enough, as `head` does: that is no error, and changes no exit code.

use std::io::{self, StdoutLock, Write};

/// Standard output until it is closed; then nothing.
pub(super) struct Output<W> {
    out: W,
    closed: bool,
}

/// The process's standard output.
pub(super) fn stdout() -> Output<StdoutLock<'static>> {
    Output { out: io::stdout().lock(), closed: false }
}

impl<W: Write> Output<W> {
    /// What came of writing, unless nobody reads any more: then `otherwise`.
    fn unless_closed<T>(&mut self, written: io::Result<T>, otherwise: T) -> io::Result<T> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(otherwise)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let written = self.out.write(bytes);
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.out.flush();
        self.unless_closed(flushed, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails.
    struct Failing(usize, io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(self.1.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            if self.0 == 0 { Err(self.1.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn what_nobody_reads_any_more_is_no_error_and_a_full_disk_is_one() {
        let mut closed = Output { out: Failing(3, io::ErrorKind::BrokenPipe), closed: false };
        closed.write_all(b"abcdef").expect("nobody reads it");
        closed.flush().expect("nobody reads it");
        closed.write_all(b"more").expect("nobody reads it");
        let mut full = Output { out: Failing(3, io::ErrorKind::StorageFull), closed: false };
        full.write_all(b"abcdef").expect_err("it is full");
        full.flush().expect_err("it is full");
    }
}
