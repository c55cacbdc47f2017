//! ChatML: how turns become the text that the model reads, and which of it is learned how strongly.

/// Ends a document; also what a raw continuation stops at.
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";
/// Opens a turn; the role follows.
pub(crate) const TURN_START: &str = "<|im_start|>";
/// Closes a turn.
pub(crate) const TURN_END: &str = "<|im_end|>";
/// The special tokens in the order of their ids, from 0.
pub(crate) const SPECIALS: [&str; 3] = [END_OF_TEXT, TURN_START, TURN_END];

/// The same format as a Jinja template, for the file's metadata.
pub(crate) const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
     message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}\
     {{ '<|im_start|>assistant\n' }}{% endif %}";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Instructions that stand before the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word that stands in the text.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) role: Role,
    pub(crate) text: String,
}

impl Turn {
    pub(crate) fn system(text: impl Into<String>) -> Self {
        Self {
            role: Role::System,
            text: text.into(),
        }
    }

    pub(crate) fn user(text: impl Into<String>) -> Self {
        Self {
            role: Role::User,
            text: text.into(),
        }
    }

    pub(crate) fn assistant(text: impl Into<String>) -> Self {
        Self {
            role: Role::Assistant,
            text: text.into(),
        }
    }

    /// The turn up to where its text begins.
    pub(crate) fn opening(role: Role) -> String {
        format!("{TURN_START}{}\n", role.word())
    }
}

/// The text of `turns` as the chat template writes it, ready for an answer.
pub(crate) fn prompt(turns: &[Turn]) -> String {
    let mut text: String = turns
        .iter()
        .map(|turn| format!("{}{}{TURN_END}\n", Turn::opening(turn.role), turn.text))
        .collect();
    text.push_str(&Turn::opening(Role::Assistant));
    text
}
