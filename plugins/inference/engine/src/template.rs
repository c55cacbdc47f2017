//! Puts a conversation into the form that the model was trained on: the Jinja template inside the file, with the
//! functions that such templates call. A file without one gets ChatML. Templates come from strangers; what one may
//! compute is bounded.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::error::{LoadError, TemplateError};

/// Steps of the template machine for one conversation. A loop over a message takes some dozens.
const MOST_STEPS: u64 = 20_000_000;
/// Name of the only template there is.
const CHAT: &str = "chat";
/// The form for models that bring none.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/// Marks an error that the template raised on purpose.
const RAISED: &str = "raised by the template: ";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, or what else the model's template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl ChatMessage {
    /// A turn of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A parsed template with the model's own special tokens.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    pub(crate) fn new(source: Option<&str>, bos: &str, eos: &str) -> Result<Self, LoadError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| LoadError::Template(describe(&e)))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(MOST_STEPS));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
        });
        environment.add_function("strftime_now", |format: String| strftime(&format, SystemTime::now()));
        let source = source.unwrap_or(CHATML).to_owned();
        environment
            .add_template_owned(CHAT, source)
            .map_err(|e| LoadError::Template(describe(&e)))?;
        Ok(Self {
            environment,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    pub(crate) fn render(
        &self,
        messages: &[ChatMessage],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let template = self.environment.get_template(CHAT).map_err(|e| failed(&e))?;
        let context = context! {
            messages => Serde(messages),
            tools => Serde(tools),
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        template.render(context).map_err(|e| failed(&e))
    }
}

fn failed(error: &Error) -> TemplateError {
    match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
        Some(message) => TemplateError::Refused(message.to_owned()),
        None => TemplateError::Failed(describe(error)),
    }
}

fn describe(error: &Error) -> String {
    let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    format!(
        "{}{}{line}",
        error.kind(),
        error.detail().map(|d| format!(": {d}")).unwrap_or_default()
    )
}

/// JSON as Python's `json.dumps` writes it, which is what models saw in training: a space after `,` and `:`, nothing
/// escaped for HTML.
fn to_json(value: Jinja, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let form = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, form))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    written.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    String::from_utf8(out).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// The date and time in UTC, by the letters that templates use; other letters stay as they are.
fn strftime(format: &str, time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&format!("{:02}", year % 100)),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('H') => out.push_str(&format!("{:02}", clock / 3_600)),
            Some('M') => out.push_str(&format!("{:02}", clock / 60 % 60)),
            Some('S') => out.push_str(&format!("{:02}", clock % 60)),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month and day of a day counted from 1 January 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut year, mut left) = (1970, days);
    while left >= if leap(year) { 366 } else { 365 } {
        left -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;

    /// The shape of Llama 3.2's template: set, strip, date, loops, and a refusal.
    const LLAMA3: &str = r#"{{- bos_token }}
{%- if strftime_now is defined %}
    {%- set date_string = strftime_now("%Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today: " + date_string[:2] + "\n\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- raise_exception("No tools here.") }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'].strip() + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

    fn talk() -> Vec<ChatMessage> {
        vec![
            ChatMessage::new("system", " Be brief. "),
            ChatMessage::new("user", "Hi <b> & \"you\"\n"),
        ]
    }

    #[test]
    fn a_file_without_a_template_gets_chatml() {
        let template = ChatTemplate::new(None, "<s>", "</s>").unwrap();
        assert_eq!(
            template.render(&talk(), None, true).unwrap(),
            "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHi <b> & \"you\"\n<|im_end|>\n<|im_start|>assistant\n"
        );
        assert!(template.render(&talk(), None, false).unwrap().ends_with("<|im_end|>\n"));
    }

    #[test]
    fn llama_3_style_renders() {
        let template = ChatTemplate::new(Some(LLAMA3), "<|begin_of_text|>", "<|eot_id|>").unwrap();
        assert_eq!(
            template.render(&talk(), None, true).unwrap(),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday: 20\n\nBe brief.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nHi <b> & \"you\"<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        );
    }

    #[test]
    fn a_refusal_of_the_template_keeps_its_words() {
        let template = ChatTemplate::new(Some(LLAMA3), "", "").unwrap();
        let error = template
            .render(&[ChatMessage::new("tool", "x")], None, true)
            .unwrap_err();
        assert!(
            matches!(&error, TemplateError::Refused(words) if words == "No tools here."),
            "{error}"
        );
    }

    #[test]
    fn tools_are_written_as_python_writes_json() {
        let source = "{{ tools | tojson }}|{{ tools | tojson(indent=2) }}";
        let template = ChatTemplate::new(Some(source), "", "").unwrap();
        let tools = serde_json::json!([{"a": 1, "b": "<é>"}]);
        assert_eq!(
            template.render(&[], Some(&tools), false).unwrap(),
            "[{\"a\": 1, \"b\": \"<é>\"}]|[\n  {\n    \"a\": 1,\n    \"b\": \"<é>\"\n  }\n]"
        );
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
        let template = ChatTemplate::new(Some(source), "", "").unwrap();
        assert!(matches!(
            template.render(&[], None, false),
            Err(TemplateError::Failed(_))
        ));
    }

    #[test]
    fn a_template_that_does_not_parse_is_a_load_error() {
        let error = ChatTemplate::new(Some("{% for %}"), "", "").unwrap_err();
        assert!(matches!(error, LoadError::Template(_)));
    }

    #[test]
    fn dates_are_right() {
        let at = |seconds| strftime("%d %b %Y %H:%M:%S %A %%%q", UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "01 Jan 1970 00:00:00 Thursday %%q");
        assert_eq!(at(951_827_696), "29 Feb 2000 12:34:56 Tuesday %%q");
        assert_eq!(at(1_735_689_599), "31 Dec 2024 23:59:59 Tuesday %%q");
        assert_eq!(at(4_107_542_400), "01 Mar 2100 00:00:00 Monday %%q");
    }
}
