//! Objects as C programs run them: linked by `cc` into a program that has no compiler in it.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use loom_codegen_cpu::{Object, ObjectOptions, emit_object};
use loom_ir::kernel::{Buffer, Program, Verified};
use loom_runtime::executor::{ExecuteError, Executor, WeightBits};
use loom_runtime::weights::Weights;
use tempfile::TempDir;

/// What the program does with its floating-point environment before it calls the object, and checks afterwards.
const HOSTILE: &str = "\
#if defined(__x86_64__)
#include <xmmintrin.h>
/* Subnormals flushed both ways, rounding down. */
#define HOSTILE (0x1f80u | 1u << 15 | 1u << 6 | 1u << 13)
static void spoil(void) { _mm_setcsr(HOSTILE); }
static int is_spoilt(void) { return (_mm_getcsr() & ~0x3fu) == HOSTILE; }
#else
static void spoil(void) {}
static int is_spoilt(void) { return 1; }
#endif
";

/// An object in a process of its own, which reads inputs and writes outputs.
///
/// The process runs in a floating-point environment that would change bits. Its memory is full of ones before each use,
/// and the weights are gone once they are prepared.
pub struct ObjectExecutor {
    program: Arc<Verified>,
    child: Child,
    /// `None` once the process shall end.
    to: Option<ChildStdin>,
    from: ChildStdout,
    /// The files, as long as the process may need them.
    _folder: TempDir,
}

impl ObjectExecutor {
    /// Makes the object and builds the program. The prefix shall be `net`.
    pub fn new(program: Arc<Verified>, weights: &Weights, options: &ObjectOptions<'_>) -> ObjectExecutor {
        let object = emit_object(&program, options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("net.o"), &object.bytes).unwrap();
        std::fs::write(path("net.h"), &object.header).unwrap();
        std::fs::write(path("main.c"), source(&program, options.weights.is_some())).unwrap();
        flat_weights(&object, &program, weights, &path("net.weights"));
        cc(folder.path(), &["main.c", "net.o", "-o", "net"]);
        let (input, output) = (Stdio::piped(), Stdio::piped());
        let mut child = Command::new(path("net")).arg(path("net.weights")).stdin(input).stdout(output).spawn().unwrap();
        let (to, from) = (child.stdin.take(), child.stdout.take().unwrap());
        ObjectExecutor { program, child, to, from, _folder: folder }
    }
}

fn flat_weights(object: &Object, program: &Program, weights: &Weights, path: &Path) {
    let arrays: Vec<&[u32]> = (0..program.weights().count()).map(|index| weights.bits(index)).collect();
    object.weights.write(&arrays, &mut std::fs::File::create(path).unwrap()).unwrap();
}

/// Compiles and links C, with no warning left.
pub fn cc(folder: &Path, args: &[&str]) {
    let strict = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wl,--fatal-warnings"];
    let done = Command::new("cc").args(strict).args(args).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A program that runs batch after batch from its standard input to its standard output.
fn source(program: &Program, embedded: bool) -> String {
    let mut text =
        format!("#include \"net.h\"\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n{HOSTILE}");
    text.push_str("static void *block(size_t size) { void *p = aligned_alloc(net_ALIGNMENT, size); memset(p, 255, size); return p; }\n");
    text.push_str("int main(int count, char **args) {\n    if (count != 2) return 2;\n    spoil();\n");
    text.push_str("    if (net_prepared_bytes() != net_PREPARED_BYTES || net_workspace_bytes() != net_WORKSPACE_BYTES) return 3;\n");
    text.push_str("    if (net_weights_bytes() != net_WEIGHTS_BYTES) return 3;\n");
    text.push_str("    void *prepared = block(net_PREPARED_BYTES), *workspace = block(net_WORKSPACE_BYTES);\n");
    if embedded || program.weights().count() == 0 {
        text.push_str("    (void)args;\n    net_prepare(prepared);\n");
    } else {
        text.push_str(
            "    void *file = block(net_WEIGHTS_BYTES);
    FILE *stream = fopen(args[1], \"rb\");
    if (!stream || fread(file, 1, net_WEIGHTS_BYTES, stream) != net_WEIGHTS_BYTES) return 4;
    net_weights weights;
    net_weights_in(&weights, file);
    net_prepare(&weights, prepared);
    memset(file, 255, net_WEIGHTS_BYTES);
    free(file);
",
        );
    }
    // Prepared memory may be moved.
    text.push_str(
        "    void *moved = block(net_PREPARED_BYTES);
    memcpy(moved, prepared, net_PREPARED_BYTES);
    memset(prepared, 255, net_PREPARED_BYTES);
    free(prepared);
    net_inputs inputs;
    net_outputs outputs;
    for (;;) {
        memset(workspace, 255, net_WORKSPACE_BYTES);
",
    );
    let bytes = |buffer: &Buffer| buffer.bytes();
    for (_, buffer) in program.inputs() {
        let (name, bytes) = (member(buffer), bytes(buffer));
        let _ = writeln!(text, "        static char in_{name}[{bytes} + 64];");
        let _ = writeln!(text, "        if (fread(in_{name}, 1, {bytes}, stdin) != {bytes}) return 0;");
        let _ = writeln!(text, "        inputs.{name} = (const void *)in_{name};");
    }
    for (_, buffer) in program.outputs() {
        let (name, bytes) = (member(buffer), bytes(buffer));
        let _ = writeln!(text, "        static char out_{name}[{bytes} + 64];");
        let _ = writeln!(text, "        memset(out_{name}, 255, {bytes});");
        let _ = writeln!(text, "        outputs.{name} = (void *)out_{name};");
    }
    text.push_str("        net_run(moved, &inputs, &outputs, workspace);\n        if (!is_spoilt()) return 5;\n");
    for (_, buffer) in program.outputs() {
        let _ = writeln!(text, "        fwrite(out_{}, 1, {}, stdout);", member(buffer), bytes(buffer));
    }
    text.push_str("        fflush(stdout);\n    }\n}\n");
    text
}

/// What the header calls the tensors of the networks here, whose names have nothing else in them.
fn member(buffer: &Buffer) -> String {
    buffer.name.replace('.', "_")
}

impl Executor for ObjectExecutor {
    fn program(&self) -> &Program {
        &self.program
    }

    fn description(&self) -> String {
        "a C program".to_string()
    }

    fn run(&mut self, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        let mut exchange = || -> io::Result<()> {
            let Some(to) = &mut self.to else { return Ok(()) };
            for input in inputs {
                to.write_all(&input.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>())?;
            }
            to.flush()?;
            for output in outputs.iter_mut() {
                let mut bytes = vec![0; output.len() * 4];
                self.from.read_exact(&mut bytes)?;
                for (bits, bytes) in output.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *bits = u32::from_le_bytes(*bytes);
                }
            }
            Ok(())
        };
        let ended = |error: io::Error| ExecuteError::Device(format!("{error}; {:?}", self.child.try_wait()));
        exchange().map_err(ended)
    }

    fn trace(&mut self, _: &[&[u32]], _: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>) -> Result<(), ExecuteError> {
        Err(ExecuteError::Internal("a C program shows no kernels".to_string()))
    }
}

impl Drop for ObjectExecutor {
    fn drop(&mut self) {
        // Without an input it ends by itself.
        self.to = None;
        let ended = self.child.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success());
        }
    }
}
