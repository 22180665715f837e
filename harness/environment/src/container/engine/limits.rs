//! Time limits of everything that the engine is asked for. They end a hung engine, not a slow one: each is many times what a busy machine
//! with two processors takes.

use std::time::Duration;

/// A ping. The first thing that a run and `doctor` do: whoever has no engine should hear it at once.
pub(super) const PING: Duration = Duration::from_secs(3);

/// Looking at something: lists, versions, inspections. The engine answers from memory, but waits for locks that a start holds.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Any request, as the client itself gives it up: every request has a limit of its own that is shorter, but for a pull.
pub(super) const REQUEST: Duration = Duration::from_secs(600);

/// Making or changing one thing: a network, an attachment, a pause. Takes a tenth of a second; firewall rules are written one client at a
/// time.
pub(super) const CHANGE: Duration = Duration::from_secs(20);

/// One container from its creation until its process runs. Takes half a second; a dozen may start at a time.
pub(super) const START: Duration = Duration::from_secs(30);

/// Copying the harness's binary into its volume: an unoptimised one is large, and the disk may be slow.
pub(super) const UPLOAD: Duration = Duration::from_secs(60);

/// Pulling one image: some hundred megabytes over a slow line. A registry that does not answer is given up long before by the engine.
pub(super) const PULL: Duration = Duration::from_secs(300);

/// Killing, until the container counts as stopped, and removing. The engine itself waits ten seconds for a process that won't die.
pub(super) const REMOVE: Duration = Duration::from_secs(20);

/// How long the removal of a run's things is tried again. The engine gives up a removed container's networks and volumes a moment after its
/// answer; what is in use later is in use by somebody else.
pub(super) const REMOVAL: Duration = Duration::from_secs(5);

/// Between two looks at something that the engine has no event for: it answers each in a few milliseconds.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);

/// How long the watcher of a killed harness goes on, waiting for the engine included.
pub(super) const REAP: Duration = Duration::from_secs(30);

/// How long nothing must have been there before the watcher believes it: the engine completes what it was asked for, also when the one who
/// asked is dead, and a container becomes visible only once it is made.
pub(super) const QUIET: Duration = Duration::from_secs(2);
