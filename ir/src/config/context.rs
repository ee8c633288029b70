//! What is kept while a file is read: the errors so far, and what has to be unique or counted across all layers.

use std::collections::BTreeMap;

use super::error::{ConfigError, ConfigErrors};
use crate::diagnostics::Span;
use crate::limits;

/// Proof that an error was reported: what can't be read is given back as this, and reading goes on elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported(());

#[derive(Debug, Default)]
pub(super) struct Context {
    errors: Vec<ConfigError>,
    left_out: usize,
    names: BTreeMap<String, Span>,
    layers: usize,
}

impl Context {
    pub fn report(&mut self, error: ConfigError) -> Reported {
        if self.errors.len() < limits::MAX_CONFIG_ERRORS {
            self.errors.push(error);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        Reported(())
    }

    /// Counts a layer that is about to be read.
    pub fn enter_layer(&mut self, span: Span) -> Result<(), Reported> {
        self.layers = self.layers.saturating_add(1);
        match self.layers.saturating_sub(limits::MAX_LAYERS) {
            0 => Ok(()),
            1 => Err(self.report(ConfigError::TooManyLayers { span })),
            _ => Err(Reported(())),
        }
    }

    /// Keeps a layer's name, or gives back where it is given already.
    pub fn claim_name(&mut self, name: &str, span: Span) -> Result<(), Span> {
        match self.names.get(name) {
            Some(&first) => Err(first),
            None => {
                self.names.insert(name.to_owned(), span);
                Ok(())
            }
        }
    }

    /// `read` if all went well, else what went wrong.
    pub fn finish<T>(self, read: Result<T, Reported>) -> Result<T, ConfigErrors> {
        match read {
            Ok(value) if self.errors.is_empty() => Ok(value),
            _ => Err(ConfigErrors::new(self.errors, self.left_out)),
        }
    }
}
