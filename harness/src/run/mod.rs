//! Running cases: plan, schedule, one case, and the events that say how it goes.

pub mod event;
