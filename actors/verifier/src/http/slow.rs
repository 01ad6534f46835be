//! A body that is sent a few bytes at a time: for the self-test, since some servers take the first read for the whole request.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::Pace;

/// Sends `rest` at a pace; its length is announced, as that of any other body.
pub(super) struct SlowBody {
    rest: Bytes,
    pace: Pace,
    pause: Pin<Box<Sleep>>,
}

impl SlowBody {
    pub(super) fn new(body: Vec<u8>, pace: Pace) -> Self {
        Self { rest: body.into(), pace, pause: Box::pin(sleep(pace.pause)) }
    }
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.pause.as_mut().poll(cx));
        let next = Instant::now() + self.pace.pause;
        self.pause.as_mut().reset(next);
        let piece = self.pace.bytes.clamp(1, self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
