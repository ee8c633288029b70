//! Programs as object files: a library of five C functions, without a runtime.
//!
//! The object holds the kernels, which are [`emit_clif`](crate::emit_clif)'s, and a driver that calls them in order (`driver`):
//!
//! - `PREFIX_prepare` packs the weights, once, into memory of the caller's;
//! - `PREFIX_run` runs one batch, in memory of the caller's;
//! - `PREFIX_prepared_bytes` and `PREFIX_workspace_bytes` say how much memory each needs, and `PREFIX_weights_bytes` how
//!   long the flat file of weights is.
//!
//! They allocate nothing, keep nothing between calls, call nothing outside the object, and set LN1's floating-point
//! environment for as long as they run, so that a host which flushes subnormals gets the same bits. What they take is
//! told by the header ([`Object::header`]). The same program, options and version give the same bytes.

mod driver;
mod environment;
mod header;
mod names;
mod places;

use cranelift_module::{DataDescription, DataId, Linkage, Module as _};
use cranelift_object::object::{BinaryFormat, SectionKind};
use cranelift_object::{ObjectBuilder, ObjectModule};
use loom_fp_env::FpEnv;
use loom_ir::kernel::{BufferKind, Verified};

use crate::abi::SCRATCH_ALIGNMENT;
use crate::error::Error;
use crate::functions::{self, Extras};
use crate::jit::{define, internal, libcall_name};
use crate::level::Level;
use crate::target::{Form, isa_of_level};

pub use places::Flat;

/// Most bytes of weights inside an object: code reaches its data within 2 GiB.
const MAX_EMBEDDED: u64 = 1 << 30;

/// How to make an object.
#[derive(Debug, Clone)]
pub struct ObjectOptions<'a> {
    /// The target triple.
    pub triple: String,
    /// What the processors that will run it have.
    pub level: Level,
    /// What the names of all symbols begin with: a C identifier. Two objects of one program differ in it.
    pub prefix: String,
    /// The weights, in the program's order, if the object is to hold them.
    pub weights: Option<Vec<&'a [u32]>>,
}

impl ObjectOptions<'_> {
    /// An object for any processor of this machine's architecture, without weights. What isn't of an identifier in the
    /// name becomes an underscore.
    pub fn portable(name: &str) -> ObjectOptions<'static> {
        ObjectOptions {
            triple: target_lexicon::Triple::host().to_string(),
            level: Level::Portable,
            prefix: names::identifier(name),
            weights: None,
        }
    }
}

/// An object file and what its callers need.
#[derive(Debug, Clone)]
pub struct Object {
    /// The file.
    pub bytes: Vec<u8>,
    /// The C header.
    pub header: String,
    /// Where each weight lies in the flat file of weights, in the program's order.
    pub weights: Flat,
}

/// A data object of the module: its place there, and where each buffer lies in it.
pub(crate) struct Data {
    id: DataId,
    flat: Flat,
}

/// The program as an object file. See the module's documentation.
pub fn emit_object(program: &Verified, options: &ObjectOptions<'_>) -> Result<Object, Error> {
    if !names::is_identifier(&options.prefix) {
        return Err(Error::Prefix(options.prefix.clone()));
    }
    if let Some(weights) = &options.weights {
        check_weights(program, weights)?;
    }
    // Cranelift folds arithmetic on constants with the processor's own.
    FpEnv::run(|| object(program, options))
}

/// The code reads as many elements of each weight as the program says.
fn check_weights(program: &Verified, weights: &[&[u32]]) -> Result<(), Error> {
    let needed = program.weights().count();
    if weights.len() != needed {
        return Err(Error::Weights(format!("{needed} are needed, {} were given", weights.len())));
    }
    for ((_, buffer), bits) in program.weights().zip(weights) {
        let (name, elements) = (&buffer.name, buffer.shape.elements());
        if bits.len() as u64 != elements {
            return Err(Error::Weights(format!("`{name}` has {elements} elements, {} were given", bits.len())));
        }
    }
    Ok(())
}

fn object(program: &Verified, options: &ObjectOptions<'_>) -> Result<Object, Error> {
    let isa = isa_of_level(&options.triple, options.level, Form::Object)?;
    let environment = environment::exchange(isa.triple())?;
    let mut module = functions::generate(program, Extras::of_object(options.level), isa.frontend_config(), true)?;
    module.of_target(isa.as_ref());
    module.hide();
    let config = isa.frontend_config();
    let builder = ObjectBuilder::new(isa, "loom", Box::new(libcall_name))
        .map_err(|error| Error::Target(format!("no object files for `{}`: {error:#}", options.triple)))?;
    let mut object = ObjectModule::new(builder);

    let constants: Vec<&[u32]> = program
        .buffers
        .iter()
        .filter_map(|buffer| match &buffer.kind {
            BufferKind::Constant(bits) => Some(&bits[..]),
            _ => None,
        })
        .collect();
    let constants = data(&mut object, "loom_constants", &constants)?;
    let flat = Flat::new(program.weights().map(|(_, buffer)| buffer.bytes()));
    let weights = match &options.weights {
        Some(_) if flat.bytes > MAX_EMBEDDED => return Err(Error::Embedded { bytes: flat.bytes, most: MAX_EMBEDDED }),
        Some(weights) => data(&mut object, "loom_weights", weights)?,
        None => None,
    };
    let places = places::Places::new(program, &module);
    let driver = driver::Driver {
        program,
        places: &places,
        constants: constants.as_ref(),
        weights: weights.as_ref(),
        takes_weights: options.weights.is_none() && !flat.offsets.is_empty(),
        object: &object,
        config,
    };
    let units = driver.units(&module, environment, &options.prefix, &flat);
    module.units.extend(units);
    define(&mut object, &module, 1)?;
    let mut product = object.finish();
    if product.object.format() == BinaryFormat::Elf {
        // Without this section linkers take it that the stack must be executable.
        product.object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), SectionKind::Other);
    }
    let bytes = product.emit().map_err(|error| internal("(module)", &error))?;
    let header = header::Header { program, options, places: &places, flat: &flat }.text();
    Ok(Object { bytes, header, weights: flat })
}

/// Read-only memory with these arrays, if there are any.
fn data(object: &mut ObjectModule, name: &str, arrays: &[&[u32]]) -> Result<Option<Data>, Error> {
    if arrays.is_empty() {
        return Ok(None);
    }
    let flat = Flat::new(arrays.iter().map(|array| array.len() as u64 * 4));
    let mut bytes = Vec::with_capacity(flat.bytes as usize);
    flat.write(arrays, &mut bytes).map_err(|error| internal(name, &error))?;
    let failed = |error: cranelift_module::ModuleError| internal(name, &error);
    let id = object.declare_data(name, Linkage::Local, false, false).map_err(failed)?;
    let mut description = DataDescription::new();
    description.set_align(SCRATCH_ALIGNMENT as u64);
    description.define(bytes.into_boxed_slice());
    object.define_data(id, &description).map_err(failed)?;
    Ok(Some(Data { id, flat }))
}
