//! What a full toolchain has, by name.

/// PostgreSQL major versions that the harness knows, oldest first.
pub const POSTGRES_MAJORS: [u16; 4] = [15, 16, 17, 18];

/// Drivers of PostgreSQL that a full toolchain has, `rustls` aside.
pub const POSTGRES_DRIVERS: [&str; 8] = [
    "libpq-15",
    "libpq-16",
    "libpq-17",
    "libpq-18",
    "libpq-psycopg2-2.9.10",
    "libpq-psycopg2-2.9.12",
    "psycopg2-2.9.10",
    "psycopg2-2.9.12",
];

/// The Redis client for Python, which has its home in the newest of the Python environments.
pub const REDIS_PYTHON_DRIVER: &str = "redis-py";

/// The clients that load a `nautobot_config.py`, which share a Python environment.
pub const NAUTOBOT_DRIVERS: [&str; 3] = ["nautobot-django", "nautobot-kombu", "nautobot-redis"];
