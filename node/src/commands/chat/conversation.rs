//! What was asked and answered: the messages of the next request, and the whole as Markdown.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) text: String,
    /// Whether it was stopped, or broke off, before its end.
    pub(super) cut: bool,
    /// Who gave it, where that is known.
    pub(super) provider: Option<String>,
    pub(super) model: String,
}

/// A conversation. It is bounded by what the gateway takes in one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversation {
    /// What the model is told beforehand.
    pub(super) system: Option<String>,
    turns: Vec<(String, Answered)>,
    /// The last question, where it got no answer.
    unanswered: Option<String>,
}

/// A question that is on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) messages: Vec<Value>,
    /// Whether the last question is asked again.
    again: bool,
}

impl Conversation {
    pub(super) fn new(system: Option<String>) -> Self {
        Self {
            system,
            ..Self::default()
        }
    }

    /// A new question, with all that was said before.
    pub(super) fn ask(&self, question: String) -> Asked {
        Asked {
            messages: self.messages(self.turns.len(), &question),
            question,
            again: false,
        }
    }

    /// The last question again, as if it had not been answered; `None` where there was none.
    pub(super) fn ask_again(&self) -> Option<Asked> {
        if let Some(question) = &self.unanswered {
            return Some(self.ask(question.clone()));
        }
        let (question, _) = self.turns.last()?;
        Some(Asked {
            messages: self.messages(self.turns.len() - 1, question),
            question: question.clone(),
            again: true,
        })
    }

    fn messages(&self, turns: usize, question: &str) -> Vec<Value> {
        let system = self.system.iter().map(|text| message("system", text));
        let said = self.turns[..turns]
            .iter()
            .flat_map(|(question, answer)| [message("user", question), message("assistant", &answer.text)]);
        system.chain(said).chain([message("user", question)]).collect()
    }

    /// Keeps an answer. Asked again, a question has the new answer in the place of the old one.
    pub(super) fn answered(&mut self, asked: Asked, answer: Answered) {
        self.unanswered = None;
        if asked.again {
            self.turns.pop();
        }
        self.turns.push((asked.question, answer));
    }

    /// A question that nothing came for is not a part of the conversation. Where it was asked again, the old answer is.
    pub(super) fn failed(&mut self, asked: Asked) {
        if !asked.again {
            self.unanswered = Some(asked.question);
        }
    }

    /// Forgets all that was said, but not what the model is told beforehand.
    pub(super) fn clear(&mut self) {
        self.turns.clear();
        self.unanswered = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// All of it for people.
    pub(super) fn markdown(&self) -> String {
        let mut text = "# Conversation\n".to_owned();
        if let Some(system) = &self.system {
            let _ = write!(text, "\n**System:** {system}\n");
        }
        for (question, answer) in &self.turns {
            let by = match &answer.provider {
                Some(provider) => format!("{}, {provider}", answer.model),
                None => answer.model.clone(),
            };
            let _ = write!(
                text,
                "\n## Question\n\n{question}\n\n## Answer ({by})\n\n{}\n",
                answer.text.trim_end()
            );
            if answer.cut {
                text.push_str("\n*(cut here)*\n");
            }
        }
        text
    }
}

fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, cut: bool) -> Answered {
        Answered {
            text: text.to_owned(),
            cut,
            provider: Some("16Uiu2HA".to_owned()),
            model: "m".to_owned(),
        }
    }

    fn said(asked: &Asked) -> Vec<&str> {
        let contents = asked.messages.iter().map(|message| message["content"].as_str());
        contents.map(Option::unwrap).collect()
    }

    #[test]
    fn a_question_carries_what_was_said_before() {
        let mut talk = Conversation::new(Some("be brief".to_owned()));
        let asked = talk.ask("one?".to_owned());
        assert_eq!(said(&asked), ["be brief", "one?"]);
        talk.answered(asked, answer("one.", true));
        let asked = talk.ask("two?".to_owned());
        assert_eq!(
            said(&asked),
            ["be brief", "one?", "one.", "two?"],
            "what was cut was said"
        );
        let roles: Vec<&Value> = asked.messages.iter().map(|message| &message["role"]).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        talk.clear();
        assert_eq!(said(&talk.ask("three?".to_owned())), ["be brief", "three?"]);
    }

    #[test]
    fn a_retry_replaces_the_last_answer_once_there_is_a_new_one() {
        let mut talk = Conversation::default();
        assert!(talk.ask_again().is_none());
        let asked = talk.ask("one?".to_owned());
        talk.answered(asked, answer("bad", false));
        let again = talk.ask_again().unwrap();
        assert_eq!(said(&again), ["one?"]);
        talk.failed(again);
        assert_eq!(said(&talk.ask("two?".to_owned())), ["one?", "bad", "two?"]);
        let again = talk.ask_again().unwrap();
        talk.answered(again, answer("good", false));
        assert_eq!(said(&talk.ask("two?".to_owned())), ["one?", "good", "two?"]);
    }

    #[test]
    fn a_question_that_failed_can_be_asked_again() {
        let mut talk = Conversation::default();
        let asked = talk.ask("one?".to_owned());
        talk.failed(asked);
        assert!(talk.is_empty());
        let again = talk.ask_again().unwrap();
        assert_eq!(said(&again), ["one?"]);
        talk.answered(again, answer("one.", false));
        assert_eq!(said(&talk.ask_again().unwrap()), ["one?"]);
        assert_eq!(said(&talk.ask("two?".to_owned())), ["one?", "one.", "two?"]);
    }

    #[test]
    fn it_reads_as_markdown() {
        let mut talk = Conversation::new(Some("be brief".to_owned()));
        let asked = talk.ask("one?".to_owned());
        talk.answered(asked, answer("one\n", true));
        assert_eq!(
            talk.markdown(),
            "# Conversation\n\n**System:** be brief\n\n## Question\n\none?\n\n## Answer (m, 16Uiu2HA)\n\none\n\n*(cut here)*\n"
        );
    }
}
