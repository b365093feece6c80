//! The commands that need more than a line.

pub mod plugin;
