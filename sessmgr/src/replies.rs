//! Answers to requests, held back until what they tell is on file: who has heard an answer may rely on it, also when this process dies.

/// The answers of one turn of the loop, in order.
#[derive(Default)]
pub struct Replies(Vec<Box<dyn FnOnce() + Send>>);

impl Replies {
    /// Adds an answer.
    pub fn push(&mut self, reply: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(reply));
    }

    /// Lets them leave.
    pub fn send(&mut self) {
        self.0.drain(..).for_each(|reply| reply());
    }
}
