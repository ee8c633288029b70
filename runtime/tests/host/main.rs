//! Host programs with floating-point settings of their own, and with threads of their own: the same digests, and their
//! settings afterwards.
//!
//! Needs a Vulkan adapter (a software one will do): without one every test with a GPU fails.

mod environment;
mod network;
mod settings;
mod threads;
