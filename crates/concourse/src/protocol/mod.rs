//! The JSON that Concourse and the resources exchange, read and written the way Go's `encoding/json` does, because that is
//! what pipelines have been tested with: keys match in any case, unknown ones are errors, `null` leaves the default, only
//! the first value counts; `<`, `>` and `&` are written as `\u003c`, `\u003e` and `\u0026`.
//!
//! [`Value`] is a piece of the request with the path that error texts name. A type reads itself with
//! [`Value::object`], which hands it one field after the other.

mod decode;
mod encode;
mod scan;

pub(crate) use decode::{DecodeError, Value, request};
pub use encode::encode;
