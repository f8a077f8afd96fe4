//! The machinery of command declarations: parse, abbreviate, help, complete, render.

mod keyword;

pub use keyword::Keyword;
