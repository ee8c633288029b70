//! Ctrl-C: files that are half written go away with the process.

use loom_runtime::tensors::remove_partial_files;

/// What shells expect of a process that ended by the signal.
const INTERRUPTED: i32 = 130;

/// Removes half-written files when the user interrupts. Finished files were renamed to their place and stay.
pub fn install() {
    // Without a handler, an interrupt ends the process all the same.
    let _ = ctrlc::set_handler(|| {
        remove_partial_files();
        std::process::exit(INTERRUPTED);
    });
}
