//! `loomc convert`: of a file of tensors the number formats, of a network the dialect.

use crate::cli::Convert;
use crate::failure::Failure;
use crate::model::{FileKind, file_kind};

mod network;
mod tensors;

pub fn convert(args: &Convert) -> Result<(), Failure> {
    let refuse = |options: &[(&str, bool)], of: &str| match options.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::User(format!("{}: {option} is for {of}", args.input.display()))),
        None => Ok(()),
    };
    match file_kind(&args.input)? {
        FileKind::Container => {
            let given = [
                ("--weights", args.weights.is_some()),
                ("--model", args.model.is_some()),
                ("--weights-out", args.weights_out.is_some()),
            ];
            refuse(&given, "networks, and this is a file of tensors")?;
            tensors::convert(args)
        }
        FileKind::Config => {
            let given = [
                ("--dtype", args.dtype.is_some()),
                ("--layer", !args.layers.is_empty()),
                ("--group-size", args.group_size.is_some()),
                ("--per-tensor", args.per_tensor),
                ("--affine", args.affine),
                ("--no-scale", args.no_scale),
                ("--json", args.json),
            ];
            refuse(&given, "files of tensors, and this is a network")?;
            network::convert(args)
        }
    }
}
