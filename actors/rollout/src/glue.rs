use std::any::Any;

/// Both conversions between an actor's message type and those it stands for, as a derived actor reference needs them: in, to
/// send; and back, to return what could not be sent.
///
/// ```
/// use counterpoint_rollout::convertible;
///
/// #[derive(Debug, PartialEq)]
/// enum Message {
///     Number(u32),
///     Text(String),
/// }
///
/// convertible! { Message { Number(u32), Text(String) } }
///
/// assert_eq!(Message::from(7), Message::Number(7));
/// assert_eq!(u32::try_from(Message::Number(7)), Ok(7));
/// assert_eq!(u32::try_from(Message::Text("7".into())), Err(Message::Text("7".into())));
/// ```
#[macro_export]
macro_rules! convertible {
    ($outer:ident { $($variant:ident($inner:ty)),+ $(,)? }) => {$(
        impl From<$inner> for $outer {
            fn from(message: $inner) -> Self {
                Self::$variant(message)
            }
        }

        impl TryFrom<$outer> for $inner {
            type Error = $outer;

            fn try_from(message: $outer) -> Result<Self, $outer> {
                match message {
                    $outer::$variant(inner) => Ok(inner),
                    #[allow(unreachable_patterns, reason = "an enum may have one variant")]
                    other => Err(other),
                }
            }
        }
    )+};
}

/// What a caught panic said: the text that `panic!` was given.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let formatted = panic.downcast_ref::<String>().map(String::as_str);
    formatted.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic_is_what_it_was_given() {
        let caught = |body: fn()| std::panic::catch_unwind(body).unwrap_err();
        assert_eq!(panic_text(&*caught(|| std::panic::resume_unwind(Box::new("plain")))), "plain");
        assert_eq!(panic_text(&*caught(|| std::panic::resume_unwind(Box::new(format!("of {}", 2))))), "of 2");
        assert_eq!(panic_text(&*caught(|| std::panic::resume_unwind(Box::new(7)))), "a panic without text");
    }
}
