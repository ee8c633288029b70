//! Ctrl-C, and whatever else asks the process to end: files that are half written go away with it.

use loom_runtime::tensors::remove_partial_files;

/// What shells expect of a process that Ctrl-C ended; the same here for the other signals.
const INTERRUPTED: i32 = 130;

/// Removes half-written files when the process is to end: by SIGINT, SIGTERM or SIGHUP, or their like on Windows. Finished files were renamed to their place and stay.
pub fn install() {
    // Without a handler, an interrupt ends the process all the same.
    let _ = ctrlc::set_handler(|| {
        remove_partial_files();
        std::process::exit(INTERRUPTED);
    });
}
