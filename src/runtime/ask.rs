//! Questions to actors: every wait has a deadline and says what it waits for.

use std::time::Duration;

use counterpoint_rollout::{Lost, Reply};
use tokio::sync::oneshot;

/// A reply and the place where its answer arrives.
pub(crate) fn reply<T: Send + 'static>() -> (Reply<T>, oneshot::Receiver<Result<T, Lost>>) {
    let (tx, rx) = oneshot::channel();
    // A failed send means that the asker gave up; nobody waits for the answer.
    let reply = Reply::new(move |answer| drop(tx.send(answer)));
    (reply, rx)
}

/// Waits for an answer. `what` completes the sentence "waited for ...".
pub(crate) async fn answer<T>(
    rx: oneshot::Receiver<Result<T, Lost>>,
    what: &str,
    deadline: Duration,
) -> Result<T, String> {
    match tokio::time::timeout(deadline, rx).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(Lost)) | Err(_)) => Err(format!("waited for {what}: the actor that owed it is gone")),
        Err(_) => Err(format!("waited for {what}: nothing came within {:.0} s", deadline.as_secs_f64())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_the_answer_the_loss_or_the_deadline() {
        let minute = Duration::from_secs(60);
        let (owed, rx) = reply();
        owed.send(7);
        assert_eq!(answer(rx, "a number", minute).await, Ok(7));
        let (owed, rx) = reply::<i32>();
        drop(owed);
        assert!(answer(rx, "a number", minute).await.unwrap_err().contains("is gone"));
        let (_owed, rx) = reply::<i32>();
        assert!(
            answer(rx, "a number", minute).await.unwrap_err().contains("waited for a number: nothing came within 60 s")
        );
    }
}
