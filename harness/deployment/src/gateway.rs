//! The way through a TLS-passthrough gateway: Gateway and TLSRoute objects of the Gateway API (1.5).

use super::fields;
use super::objects::Objects;
use super::redis::Redis;
use super::redis_workload;
use super::source::Source;
use load::tree::Tree;
use load::{LoadError, Place};
use model::server::Service;

/// A TLSRoute that leads to a server of the deployment, with the Gateway's listener that it is attached to.
#[derive(Debug, Clone)]
pub struct TlsRoute {
    /// `metadata.name` of the TLSRoute.
    pub name: String,
    /// Which server it leads to.
    pub service: Service,
    /// The host names that it takes, in lower case; at least one.
    pub hosts: Vec<String>,
    /// The port of the listener.
    pub port: u16,
    /// The name of the Service that it leads to.
    pub backend: String,
    /// Where the TLSRoute stands.
    pub place: Place,
}

/// The routes of the deployment: at most one a service.
pub(super) fn routes(objects: &Objects, redis: Option<&Redis>) -> Result<Vec<TlsRoute>, LoadError> {
    let mut routes: Vec<TlsRoute> = Vec::new();
    for source in &objects.gateways {
        fields::check_gateway(&source.file, &source.document.tree)?;
        check_listeners(source)?;
    }
    for source in &objects.other_routes {
        check_leads_elsewhere(objects, redis, source)?;
    }
    for source in &objects.tls_routes {
        let route = route(objects, redis, source)?;
        if let Some(first) = routes.iter().find(|first| first.service == route.service) {
            let message = format!("a second TLSRoute to `{}`: one is tested at a time, and the first is at {}", route.backend, first.place);
            return Err(source.error(&["metadata", "name"], message));
        }
        routes.push(route);
    }
    for source in &objects.gateways {
        check_attached(objects, redis, source)?;
    }
    Ok(routes)
}

/// Checks the listeners of a Gateway beside one another.
fn check_listeners(gateway: &Source) -> Result<(), LoadError> {
    let listeners = gateway.tree().items_at(&["spec", "listeners"]);
    for (index, listener) in listeners.iter().enumerate() {
        let name = listener.text_at(&["name"]).unwrap_or_default();
        // The rule of the API's own schema. A host name's letters have no case.
        let own = |listener: &Tree| {
            [["port"], ["protocol"], ["hostname"]].map(|field| listener.text_at(&field).unwrap_or_default().to_ascii_lowercase())
        };
        if let Some(first) = listeners[..index].iter().find(|first| own(first) == own(listener)) {
            let first = first.text_at(&["name"]).unwrap_or_default();
            let message = format!(
                "`{name}` has the port, protocol and host name of the listener `{first}`: the Gateway API wants a combination of its own for each"
            );
            return Err(gateway.error(&["spec", "listeners", &index.to_string(), "name"], message));
        }
    }
    Ok(())
}

/// Checks that the listeners of a Gateway for the servers' names have a route.
fn check_attached(objects: &Objects, redis: Option<&Redis>, gateway: &Source) -> Result<(), LoadError> {
    let secrets = objects.cluster.iter().map(|(cluster, _)| &cluster.certificates.server_tls).chain(redis.map(|redis| &redis.server_tls));
    let secrets: Vec<&String> = secrets.collect();
    let of_server = objects.certificates.iter().filter(|(certificate, _)| secrets.contains(&&certificate.spec.secret_name));
    let names: Vec<&String> = of_server.flat_map(|(certificate, _)| &certificate.spec.dns_names).collect();
    for (index, listener) in gateway.tree().items_at(&["spec", "listeners"]).iter().enumerate() {
        let name = listener.text_at(&["name"]).unwrap_or_default();
        let Some(host) = listener.text_at(&["hostname"]).filter(|_| listener.text_at(&["protocol"]) == Some("TLS")) else { continue };
        let attached = |route: &Source| {
            let parent = |field| route.text(&["spec", "parentRefs", "0", field]);
            parent("name") == gateway.text(&["metadata", "name"]) && parent("sectionName") == Some(name)
        };
        if names.iter().any(|name| name.eq_ignore_ascii_case(host)) && !objects.tls_routes.iter().any(attached) {
            let message = format!(
                "no TLSRoute is attached to the listener `{name}`, whose host name is a server's: whoever connects there is refused. Add the \
                 route, or leave the listener out"
            );
            return Err(gateway.error(&["spec", "listeners", &index.to_string(), "name"], message));
        }
    }
    Ok(())
}

/// A route of another kind to a server would be a way in that nobody looks at, or none at all: HTTP is not what the servers speak.
fn check_leads_elsewhere(objects: &Objects, redis: Option<&Redis>, route: &Source) -> Result<(), LoadError> {
    let kind = route.text(&["kind"]).unwrap_or_default();
    for (rule, tree) in route.document.tree.items_at(&["spec", "rules"]).iter().enumerate() {
        for (backend, reference) in tree.items_at(&["backendRefs"]).iter().enumerate() {
            let name = reference.text_at(&["name"]).unwrap_or_default();
            if leads_to_postgres(objects, name, route.namespace().as_deref()) || redis_service(objects, redis, name, route).is_some() {
                let (rule, backend) = (rule.to_string(), backend.to_string());
                let message = format!("this {kind} leads to `{name}`: only a TLSRoute passes TLS through, and is interpreted");
                return Err(route.error(&["spec", "rules", &rule, "backendRefs", &backend, "name"], message));
            }
        }
    }
    Ok(())
}

/// Whether a Service is the one that CloudNativePG makes for the Cluster's primary.
fn leads_to_postgres(objects: &Objects, service: &str, namespace: Option<&str>) -> bool {
    let cluster = objects.cluster.as_ref().filter(|(cluster, _)| cluster.namespace.as_deref() == namespace);
    cluster.is_some_and(|(cluster, _)| service.strip_prefix(cluster.name.as_str()) == Some("-rw"))
}

/// The Service of this name in the route's namespace, if it selects Redis' pods.
fn redis_service<'a>(objects: &'a Objects, redis: Option<&Redis>, name: &str, route: &Source) -> Option<&'a Source> {
    let namespace = route.namespace();
    let service =
        objects.services.iter().find(|service| service.text(&["metadata", "name"]) == Some(name) && service.namespace() == namespace)?;
    redis_workload::is_selected(objects, &redis?.name, &service.document.tree).then_some(service)
}

fn route(objects: &Objects, redis: Option<&Redis>, source: &Source) -> Result<TlsRoute, LoadError> {
    fields::check_tls_route(&source.file, &source.document.tree)?;
    let name = source.name()?;
    let listener = listener(objects, source)?;
    let hosts = hosts(source, &listener)?;
    only(source, &["spec", "rules"], "rule")?;
    only(source, &BACKENDS, "backend")?;
    let service = service(objects, redis, source)?;
    let backend = required(source, &backend_field("name"))?.to_owned();
    Ok(TlsRoute { name, service, hosts, port: listener.port, backend, place: source.at(&["metadata", "name"]) })
}

const BACKENDS: [&str; 4] = ["spec", "rules", "0", "backendRefs"];

fn backend_field(field: &str) -> [&str; 6] {
    let [spec, rules, first, backends] = BACKENDS;
    [spec, rules, first, backends, "0", field]
}

/// The port of the Services that CloudNativePG makes.
const POSTGRES_PORT: &str = "5432";

/// What a route needs to know of the listener that it is attached to.
struct Listener<'a> {
    port: u16,
    hostname: Option<&'a str>,
}

/// The listener that the route's `parentRefs` name. Gateway API, "Attaching to Gateways": the listener's `allowedRoutes` must let routes
/// of that namespace in.
fn listener<'a>(objects: &'a Objects, route: &Source) -> Result<Listener<'a>, LoadError> {
    only(route, &["spec", "parentRefs"], "Gateway")?;
    let parent = |field| ["spec", "parentRefs", "0", field];
    let (gateway_name, section) = (required(route, &parent("name"))?, required(route, &parent("sectionName"))?);
    let Some(gateway) = objects.gateways.iter().find(|gateway| gateway.text(&["metadata", "name"]) == Some(gateway_name)) else {
        return Err(route.error(&parent("name"), format!("there is no Gateway `{gateway_name}`")));
    };
    let namespace = route.text(&parent("namespace")).map(str::to_owned).or_else(|| route.namespace());
    if gateway.namespace() != namespace {
        let message = format!(
            "the Gateway `{gateway_name}` is in the namespace {}, and is looked for in {}",
            shown(gateway.namespace().as_deref()),
            shown(namespace.as_deref())
        );
        return Err(route.error(&parent("name"), message));
    }
    let listeners = gateway.document.tree.items_at(&["spec", "listeners"]);
    let Some(index) = listeners.iter().position(|listener| listener.text_at(&["name"]) == Some(section)) else {
        let names: Vec<_> = listeners.iter().filter_map(|listener| listener.text_at(&["name"])).collect();
        let message = format!("the Gateway `{gateway_name}` has no listener `{section}`: it has {}", names.join(", "));
        return Err(route.error(&parent("sectionName"), message));
    };
    let index = index.to_string();
    let at = |field: &'static [&'static str]| [&["spec", "listeners", index.as_str()], field].concat();
    fields::check_listener(&gateway.file, &gateway.document.tree, &index)?;
    for (field, wanted) in [(&["protocol"][..], "TLS"), (&["tls", "mode"][..], "Passthrough")] {
        // `Terminate` is the default of `tls.mode`.
        if gateway.text(&at(field)) != Some(wanted) {
            let message = format!("the listener `{section}` has a TLSRoute, and is interpreted only with `{}: {wanted}`", field.join("."));
            return Err(gateway.error(&at(field), message));
        }
    }
    let from = gateway.text(&at(&["allowedRoutes", "namespaces", "from"])).unwrap_or("Same");
    if from != "All" && !(from == "Same" && gateway.namespace() == route.namespace()) {
        let message = format!("the listener `{section}` lets in routes of namespaces `from: {from}`, and this TLSRoute is in another one");
        return Err(route.error(&["metadata", "namespace"], message));
    }
    let kinds = gateway.document.tree.items_at(&at(&["allowedRoutes", "kinds"]));
    if !kinds.is_empty() && !kinds.iter().any(|kind| kind.text_at(&["kind"]) == Some("TLSRoute")) {
        let message = format!("the listener `{section}` lets in no TLSRoute, and one is attached to it");
        return Err(gateway.error(&at(&["allowedRoutes", "kinds"]), message));
    }
    let port = at(&["port"]);
    let Some(port) = gateway.text(&port).and_then(|text| text.parse().ok()) else {
        return Err(gateway.error(&port, format!("the listener `{section}` needs a `port`")));
    };
    Ok(Listener { port, hostname: gateway.text(&at(&["hostname"])) })
}

/// The route's host names; each must be one that its listener takes.
fn hosts(source: &Source, listener: &Listener<'_>) -> Result<Vec<String>, LoadError> {
    let path = ["spec", "hostnames"];
    let items = source.document.tree.items_at(&path);
    let hosts: Vec<String> = items.iter().filter_map(Tree::text).map(str::to_ascii_lowercase).collect();
    if hosts.is_empty() {
        return Err(source.error(&path, "`hostnames` needs at least one name: the gateway routes by it"));
    }
    for host in &hosts {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(source.error(&path, format!("`{host}` is no plain host name, which is all that is interpreted here")));
        }
        let taken = listener.hostname.is_none_or(|name| match name.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(&suffix.to_ascii_lowercase()),
            None => name.eq_ignore_ascii_case(host),
        });
        if !taken {
            let name = listener.hostname.unwrap_or_default();
            return Err(source.error(&path, format!("`{host}` never reaches this route: its listener takes `{name}` only")));
        }
    }
    Ok(hosts)
}

/// Which server the route's backend is in front of.
fn service(objects: &Objects, redis: Option<&Redis>, route: &Source) -> Result<Service, LoadError> {
    let (name, port) = (backend_field("name"), backend_field("port"));
    let (backend, wanted, namespace) = (required(route, &name)?, required(route, &port)?, route.namespace());
    let has_ports = |ports: &[&str]| {
        let message = || format!("the Service `{backend}` has no port {wanted}: it has {}", ports.join(", "));
        if ports.contains(&wanted) { Ok(()) } else { Err(route.error(&port, message())) }
    };
    if leads_to_postgres(objects, backend, namespace.as_deref()) {
        return has_ports(&[POSTGRES_PORT]).map(|()| Service::Postgres);
    }
    if let (Some(redis), Some(service)) = (redis, redis_service(objects, redis, backend, route)) {
        let ports = service.document.tree.items_at(&["spec", "ports"]);
        let numbers: Vec<_> = ports.iter().filter_map(|port| port.text_at(&["port"])).collect();
        has_ports(&numbers)?;
        let found = ports.iter().find(|port| port.text_at(&["port"]) == Some(wanted));
        let target = found.and_then(|port| port.text_at(&["targetPort"])).unwrap_or(wanted);
        let target = redis_workload::container_port(objects, &redis.name, target).unwrap_or(target);
        let tls_port = redis.value("tls-port").unwrap_or_default();
        if target != tls_port {
            let message =
                format!("port {wanted} of the Service `{backend}` leads to {target} of Redis' pods, and their `tls-port` is {tls_port}");
            return Err(route.error(&port, message));
        }
        return Ok(Service::Redis);
    }
    let message = format!(
        "`{backend}` leads to no server of the deployment: it is neither the Service that CloudNativePG makes for a Cluster's primary \
         (its name and `-rw`) nor a Service whose selector matches Redis' workload"
    );
    Err(route.error(&name, message))
}

/// That a list has one item.
fn only(source: &Source, path: &[&str], what: &str) -> Result<(), LoadError> {
    match source.document.tree.items_at(path).len() {
        1 => Ok(()),
        count => Err(source.error(path, format!("a TLSRoute is interpreted with exactly one {what}: this has {count}"))),
    }
}

fn required<'a>(source: &'a Source, path: &[&str]) -> Result<&'a str, LoadError> {
    source.text(path).filter(|text| !text.is_empty()).ok_or_else(|| {
        let field = path.last().copied().unwrap_or_default();
        source.error(path, format!("`{field}` is missing"))
    })
}

fn shown(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "that it is applied to".to_owned(), |name| format!("`{name}`"))
}
