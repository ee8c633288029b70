//! A network of another dialect as one of ours.

use loom_runtime::tensors::{write_atomically, write_tensors};

use crate::cli::Convert;
use crate::failure::Failure;
use crate::model::keep_sources;
use crate::{source, stdout};

pub(super) fn convert(args: &Convert) -> Result<(), Failure> {
    let path = &args.input;
    let sources = [Some(path.as_path()), args.weights.as_deref()];
    for output in [args.output(), args.weights_out.as_deref()].into_iter().flatten() {
        keep_sources(output, &sources)?;
    }
    if args.output().is_some() && args.output() == args.weights_out.as_deref() {
        return Err(Failure::User("-o and --weights-out name the same file".to_string()));
    }
    let text = source::read_old(path)?;
    let translation = source::translated(path, &text, args.weights.as_deref(), args.model.as_deref())?;
    source::tell(path, &text, &translation, None);
    if let Some(output) = &args.weights_out {
        let Some(weights) = &translation.weights else {
            let message = "there are no weights to write: a config has none, and --weights gives none";
            return Err(Failure::User(format!("{}: {message}", path.display())));
        };
        write_tensors(output, &source::tensors_of(weights)?)?;
    }
    match args.output() {
        Some(output) => Ok(write_atomically(output, |file| file.write_all(translation.config.as_bytes()))?),
        None => stdout::print(&translation.config),
    }
}
