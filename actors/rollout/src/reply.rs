use std::fmt;

/// The answer will never come: who owed it died, or dropped the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor that owed the answer is gone")]
pub struct Lost;

/// The right, and the duty, to answer one request exactly once.
///
/// Dropping it unanswered answers [`Lost`]: a request that dies with its actor's mailbox, or in a panic, wakes the one who
/// waits for it. The function given runs on the thread of whoever answers, so it must only pass the answer on (to a
/// mailbox, to a one-shot channel) and must not block.
pub struct Reply<T>(Option<Deliver<T>>);

type Deliver<T> = Box<dyn FnOnce(Result<T, Lost>) + Send>;

impl<T> Reply<T> {
    /// A reply that hands the answer to `deliver`.
    pub fn new(deliver: impl FnOnce(Result<T, Lost>) + Send + 'static) -> Self {
        Self(Some(Box::new(deliver)))
    }

    /// Answers.
    pub fn send(mut self, answer: T) {
        if let Some(deliver) = self.0.take() {
            deliver(Ok(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            deliver(Err(Lost));
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Reply(open)" } else { "Reply(answered)" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_reply_answers_exactly_once_and_a_dropped_one_answers_lost() {
        let (tx, rx) = mpsc::channel();
        let sender = tx.clone();
        Reply::new(move |answer| sender.send(answer).unwrap()).send(7);
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [Ok(7)]);
        let reply = Reply::<i32>::new(move |answer| tx.send(answer).unwrap());
        let died = std::thread::spawn(move || {
            let _owed = reply;
            std::panic::resume_unwind(Box::new("the actor dies"));
        });
        assert!(died.join().is_err());
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [Err(Lost)]);
    }
}
