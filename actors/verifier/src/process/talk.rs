//! What is said between us and a child: the hello, the requests, the answers to them. No process and no clock: bytes come
//! and go, and the time is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use counterpoint_rollout::VoidReason;
use tokio::time::Instant;

use super::codec::{self, Reply};
use super::jobs::Job;
use super::lines::{Line, Lines};

/// The state of the conversation with one child.
#[derive(Debug)]
pub(super) struct Talk {
    /// It has said hello.
    greeted: bool,
    heard: Lines,
    /// Requests, of which the first `sent` bytes are sent.
    to_send: Vec<u8>,
    sent: usize,
    /// What it was asked and has not answered, oldest first.
    asked: BTreeMap<u64, Asked>,
    next_id: u64,
}

#[derive(Debug)]
struct Asked {
    job: Job,
    due: Instant,
}

/// Why a child's words can no longer be trusted.
#[derive(Debug, PartialEq)]
pub(super) enum Breach {
    /// It said something that is no hello, or later no answer to an open request.
    Nonsense(String),
    /// It wrote a line longer than allowed.
    TooLong,
}

impl Talk {
    pub(super) fn new(longest_line: usize) -> Self {
        let (heard, asked) = (Lines::new(longest_line), BTreeMap::new());
        Self { greeted: false, heard, to_send: Vec::new(), sent: 0, asked, next_id: 1 }
    }

    pub(super) fn greeted(&self) -> bool {
        self.greeted
    }

    /// Asks a question, to be answered within `most`.
    pub(super) fn ask(&mut self, job: Job, now: Instant, most: Duration) {
        let due = job.due.min(now + most);
        let id = self.next_id;
        self.next_id += 1;
        // What is sent is let go, so that this holds the open requests at most twice.
        if self.sent > self.to_send.len() / 2 {
            self.to_send.drain(..self.sent);
            self.sent = 0;
        }
        self.to_send.extend(codec::request(id, &job.question, due.saturating_duration_since(now)));
        self.asked.insert(id, Asked { job, due });
    }

    /// What is still to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.to_send[self.sent..]
    }

    /// So many bytes of it were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// How many questions are open.
    pub(super) fn load(&self) -> usize {
        self.asked.len()
    }

    /// When the first of the open questions is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.asked.values().map(|asked| asked.due).min()
    }

    /// The oldest question that should have been answered by now.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Job> {
        let id = self.asked.iter().find(|(_, asked)| asked.due <= now).map(|(&id, _)| id)?;
        self.asked.remove(&id).map(|asked| asked.job)
    }

    /// All open questions.
    pub(super) fn take_all(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.asked).into_values().map(|asked| asked.job).collect()
    }

    /// Takes in what the child wrote, and hands the answers in it to whoever waits for them. Says whether there was a good
    /// one.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<bool, Breach> {
        let mut good = false;
        for line in self.heard.push(bytes) {
            match line {
                Line::Whole(line) if self.greeted => good |= self.answer(&line)?,
                Line::Whole(line) => {
                    codec::hello(&line).map_err(Breach::Nonsense)?;
                    self.greeted = true;
                }
                Line::Cut(_) => return Err(Breach::TooLong),
            }
        }
        Ok(good)
    }

    fn answer(&mut self, line: &[u8]) -> Result<bool, Breach> {
        let (id, answer) = match codec::reply(line) {
            Reply::Answer(id, answer) => (id, answer),
            Reply::Nonsense(what) => return Err(Breach::Nonsense(what)),
        };
        let Some(Asked { job, .. }) = self.asked.remove(&id) else {
            let what = if (1..self.next_id).contains(&id) { "was answered already" } else { "was never asked" };
            return Err(Breach::Nonsense(format!("{} answers request {id}, which {what}", codec::shown(line))));
        };
        match answer.and_then(|answer| answer.verdicts(job.question.responses.len())) {
            Ok(verdicts) => {
                job.answer(verdicts);
                Ok(true)
            }
            Err(what) => {
                tracing::warn!(prompt = job.question.prompt.id, "no verdicts: {what}");
                job.void(VoidReason::Protocol);
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use counterpoint_rollout::Verdict;
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::Question;

    const HELLO: &[u8] = b"{\"protocol\": \"counterpoint-verifier\", \"version\": 1}\n";

    type Answer = oneshot::Receiver<Vec<Verdict>>;

    /// A conversation after the hello, in which so many questions are open, due after 10 s, 20 s and so on.
    fn talk(questions: usize) -> (Talk, Vec<Answer>, Instant) {
        let (mut talk, now) = (Talk::new(1000), Instant::now());
        assert_eq!(talk.hear(HELLO), Ok(false));
        let ask = |number: usize| {
            let (reply, answer) = oneshot::channel();
            let due = now + Duration::from_secs(10 * (number as u64 + 1));
            talk.ask(
                Job { question: Question::pair("r", "a"), due, again: false, reply },
                now,
                Duration::from_secs(3600),
            );
            answer
        };
        let answers = (0..questions).map(ask).collect();
        (talk, answers, now)
    }

    fn breach(talk: &mut Talk, line: &str) -> String {
        match talk.hear(format!("{line}\n").as_bytes()) {
            Err(Breach::Nonsense(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_reach_their_questions_in_any_order() {
        let (mut talk, mut answers, _) = talk(3);
        assert_eq!(talk.load(), 3);
        let lines = b"{\"id\": 3, \"verdicts\": [\"correct\"]}\n{\"id\": 1, \"verdicts\": [\"incorrect\"]}\n{\"id\"";
        assert_eq!(talk.hear(lines), Ok(true));
        assert_eq!(talk.hear(b": 2, \"verdicts\": []}\n"), Ok(false));
        let got: Vec<_> = answers.iter_mut().map(|answer| answer.try_recv().unwrap()).collect();
        let protocol = Verdict::Void(VoidReason::Protocol);
        assert_eq!(got, [[Verdict::Incorrect], [protocol], [Verdict::Correct]]);
        assert_eq!((talk.load(), talk.due()), (0, None));
    }

    #[test]
    fn without_a_hello_or_after_a_wrong_id_nothing_is_believed() {
        let mut fresh = Talk::new(1000);
        assert!(breach(&mut fresh, "{\"id\": 1, \"verdicts\": []}").starts_with("its first line is"));
        assert!(!fresh.greeted());
        let (mut talk, _answers, _) = talk(2);
        assert_eq!(talk.hear(b"{\"id\": 1, \"verdicts\": [\"correct\"]}\n"), Ok(true));
        assert!(breach(&mut talk, "{\"id\": 1, \"verdicts\": [\"correct\"]}").ends_with("which was answered already"));
        assert!(breach(&mut talk, "{\"id\": 3, \"verdicts\": [\"correct\"]}").ends_with("which was never asked"));
        assert!(breach(&mut talk, "{\"id\": 0, \"verdicts\": [\"correct\"]}").ends_with("which was never asked"));
        assert!(breach(&mut talk, "").contains("is no JSON"));
        assert_eq!(talk.hear(&[b'x'; 1001]), Err(Breach::TooLong));
    }

    #[test]
    fn the_question_that_is_late_comes_back_before_the_others() {
        let (mut talk, _answers, now) = talk(3);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(talk.due(), Some(after(10)));
        assert!(talk.take_late(after(9)).is_none());
        assert_eq!(talk.take_late(after(20)).map(|job| job.due), Some(after(10)));
        assert_eq!(talk.take_all().len(), 2);
    }

    proptest! {
        #[test]
        fn every_byte_of_every_request_is_sent_once_however_the_pipe_takes_them(
            steps in prop::collection::vec((0_usize..3, 0_usize..400), 0..40),
        ) {
            let (mut talk, now) = (Talk::new(1000), Instant::now());
            let (mut sent, mut asked) = (Vec::new(), 0);
            for (questions, bytes) in steps {
                for _ in 0..questions {
                    let (reply, _) = oneshot::channel();
                    let due = now + Duration::from_secs(1);
                    talk.ask(Job { question: Question::pair("r", "a"), due, again: false, reply }, now, Duration::from_secs(1));
                    asked += 1;
                }
                let bytes = bytes.min(talk.unsent().len());
                sent.extend_from_slice(&talk.unsent()[..bytes]);
                talk.sent(bytes);
            }
            sent.extend_from_slice(talk.unsent());
            let ids: Vec<u64> = sent.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(|line| {
                serde_json::from_slice::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap()
            }).collect();
            prop_assert_eq!(ids, (1..=asked).collect::<Vec<u64>>());
        }
    }
}
