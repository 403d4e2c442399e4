//! Commands for several images: each is done, also if another one fails. The first failure decides the exit code.

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::open::Context;

/// An image for which a command failed.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// Its id.
    pub id: String,
    /// The name of the exit code.
    pub code: &'static str,
    /// What failed.
    pub message: String,
}

/// What was done, and what failed.
#[derive(Debug)]
pub struct Each<T> {
    /// What was done.
    pub done: Vec<T>,
    /// What failed, which was printed to stderr.
    pub failed: Vec<Problem>,
    /// The exit code.
    pub exit: Exit,
}

/// Does something for each image.
pub fn each<T>(context: &Context, images: &[String], mut work: impl FnMut(&str) -> Result<T, Failure>) -> Each<T> {
    context.stop.watch();
    let mut each = Each { done: Vec::new(), failed: Vec::new(), exit: Exit::Done };
    for id in images {
        match context.stop.check().and_then(|()| work(id)) {
            Ok(done) => each.done.push(done),
            Err(failure) => {
                context.output.failure(&failure);
                if each.exit == Exit::Done {
                    each.exit = failure.exit;
                }
                if failure.exit == Exit::Interrupted {
                    break;
                }
                each.failed.push(Problem { id: id.clone(), code: failure.exit.name(), message: failure.message });
            }
        }
    }
    each
}
