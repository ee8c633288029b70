//! `loomc compile --emit object`: an object file, its C header and its weights.

use std::path::{Path, PathBuf};

use loom_ir::kernel::Verified;
use loom_runtime::weights::Weights;

use crate::cli::ObjectArgs;
use crate::failure::Failure;

/// The object, the header, and the flat file of weights where they are not in the object.
pub fn written(object: &Path, args: &ObjectArgs) -> Vec<PathBuf> {
    let [object, header, weights] = files(object);
    if args.embed_weights { vec![object, header] } else { vec![object, header, weights] }
}

/// The object, the header, the flat file of weights.
fn files(object: &Path) -> [PathBuf; 3] {
    [object.to_path_buf(), object.with_extension("h"), object.with_extension("weights")]
}

#[cfg(feature = "cpu")]
pub fn write(path: &Path, args: &ObjectArgs, program: &Verified, weights: &Weights) -> Result<(), Failure> {
    use loom_codegen_cpu::{ObjectOptions, UnknownLevel, emit_object};
    use loom_runtime::tensors::write_atomically;

    use crate::codegen::cpu_failure;

    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = if program.name.is_empty() { &*file } else { &*program.name };
    let mut options = ObjectOptions::portable(name);
    if let Some(prefix) = &args.prefix {
        options.prefix.clone_from(prefix);
    }
    if let Some(triple) = &args.triple {
        options.triple.clone_from(triple);
    }
    if let Some(level) = &args.level {
        options.level = level.parse().map_err(|error: UnknownLevel| Failure::User(format!("--level: {error}")))?;
    }
    let arrays: Vec<&[u32]> = weights.tensors().iter().map(|tensor| tensor.bits()).collect();
    // Those that are stored in fewer bits are widened here.
    let short = program.weights().zip(&arrays).find(|((_, buffer), bits)| bits.len() as u64 != buffer.shape.elements());
    if let Some(((_, buffer), _)) = short {
        return Err(Failure::User(format!("no memory for the weight `{}`: {} bytes", buffer.name, buffer.bytes())));
    }
    let [object_path, header_path, weights_path] = files(path);
    if [&header_path, &weights_path].contains(&&object_path) {
        let path = object_path.display();
        return Err(Failure::User(format!("{path}: an object's name ends neither with `.h` nor with `.weights`")));
    }
    options.weights = args.embed_weights.then(|| arrays.clone());
    let object = emit_object(program, &options).map_err(|error| cpu_failure(&error))?;
    write_atomically(&object_path, |file| file.write_all(&object.bytes))?;
    write_atomically(&header_path, |file| file.write_all(object.header.as_bytes()))?;
    if !args.embed_weights && !arrays.is_empty() {
        write_atomically(&weights_path, |file| object.weights.write(&arrays, file))?;
    }
    Ok(())
}

#[cfg(not(feature = "cpu"))]
pub fn write(_: &Path, _: &ObjectArgs, _: &Verified, _: &Weights) -> Result<(), Failure> {
    Err(crate::codegen::no_backend("objects", "cpu"))
}
