//! `infernet chat`: a session at a terminal, and one question at a time in pipes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use infernet_inference::scripted::{Reply, Script};
use infernet_tests::processes::{NodeHome, Process, program, soon};
use infernet_tests::terminal::{END, INTERRUPT, Terminal};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Engine;

/// An answer that is still coming when somebody stops it.
fn endless() -> Script {
    Script {
        reply: Reply::Words(100_000),
        token_ms: 5,
        ..Script::default()
    }
}

fn says(text: &str) -> Script {
    Script {
        reply: Reply::Text(text.to_owned()),
        ..Script::default()
    }
}

/// Flags of a chat that joins by itself.
fn joining(at: &str) -> Vec<&str> {
    let flags = ["chat", "--network", "test", "--no-mdns", "--no-upnp", "--bootstrap", at];
    flags.into_iter().chain(["--listen", "/ip4/127.0.0.1/tcp/0"]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_at_a_terminal() {
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let engine = Engine::start(says("A fox is **red**.")).await;
    let provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
    let gateway = Process::gateway(&homes[2], hub.address()).await;
    let mut terminal = Terminal::infernet(&homes[2], &["chat", "--system", "be brief"]);
    terminal.until("scripted · 1 provider").await;
    terminal.until("> ").await;

    terminal.press("What is a fox?\r").await;
    terminal.until("A fox is **red**.").await;
    let line = terminal.until(" · $0\r\n").await;
    let end = &provider.peer_id()[provider.peer_id().len() - 6..];
    assert!(
        line.contains(end) && line.contains("first token") && line.contains(" out"),
        "{line}"
    );

    terminal.press("/modle x\r").await;
    terminal.until("there is no `/modle`: did you mean `/model`?").await;
    terminal.press("/pol\tfas\t\r").await;
    terminal.until("fastest\r\n").await;
    terminal.press("/model nobody\r").await;
    terminal.until("nobody serves `nobody`").await;
    terminal.press("/provider\r").await;
    terminal
        .until(&format!("the last answer came from {}", provider.peer_id()))
        .await;

    engine.scripted.follow(endless());
    terminal.press("And a \\\rhedgehog?\r").await;
    terminal.until("fox0 naïve1 ").await;
    terminal.press(INTERRUPT).await;
    terminal.until("cut · ").await;
    engine
        .until("the engine stops", |counts| {
            counts.cancelled == 1 && counts.running == 0
        })
        .await;
    let cut = soon("a receipt of what came", async {
        loop {
            let rows = homes[2].rows("buyer").await;
            let cut = rows.into_iter().find(|row| row["status"] == "cancelled");
            if let Some(cut) = cut.filter(|row| row["receipt"].is_string()) {
                return cut;
            }
        }
    });
    assert!(cut.await["output_tokens"].as_u64().unwrap() > 0);
    terminal.press("/cost\r").await;
    terminal.until("2 requests · ").await;
    let rest = terminal.until("> ").await;
    assert!(rest.contains(" · $0") && !rest.contains("has not come"), "{rest}");

    let file = homes[2].path().join("talk.md");
    let save = format!("/save {}\r", file.display());
    terminal.press(&save).await;
    terminal.until("saved in").await;
    terminal.press(&save).await;
    terminal.until("is there already").await;
    let saved = fs::read_to_string(&file).unwrap();
    assert!(
        saved.contains("What is a fox?\n") && saved.contains("And a \nhedgehog?"),
        "{saved}"
    );
    assert!(
        saved.contains("be brief") && saved.contains("fox0") && saved.ends_with("*(cut here)*\n"),
        "{saved}"
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // Only at its prompt is Ctrl-C a key and no signal.
    terminal.until("> ").await;
    terminal.press("half a question").await;
    terminal.press(INTERRUPT).await;
    terminal.until("Ctrl-C again leaves").await;
    terminal.until("> ").await;
    terminal.press(END).await;
    terminal.until("2 requests · ").await;
    assert_eq!(terminal.ended().await, Some(0));
    assert!(!homes[2].path().join("chat-history").exists(), "nobody asked for it");
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_joins_by_itself_remembers_only_when_asked_to() {
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let engine = Engine::start(says("Yes.")).await;
    let _provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
    let flags: Vec<&str> = joining(hub.address()).into_iter().chain(["--history"]).collect();
    let mut first = Terminal::infernet(&homes[2], &flags);
    first.until("> ").await;
    first.press("Are you there?\r").await;
    first.until("Yes.").await;
    first.until("> ").await;
    first.press("/quit\r").await;
    first.until("1 request · ").await;
    assert_eq!(first.ended().await, Some(0));

    let mut second = Terminal::infernet(&homes[2], &flags);
    second.until("> ").await;
    // Up twice: the order that was typed last, and the question before it.
    second.press("\x1b[A\x1b[A\r").await;
    second.until("Yes.").await;
    second.until("> ").await;
    second.press(INTERRUPT).await;
    second.until("Ctrl-C again leaves").await;
    second.until("> ").await;
    second.press(INTERRUPT).await;
    second.until("1 request · ").await;
    assert_eq!(second.ended().await, Some(130));
    let history = homes[2].path().join("chat-history");
    assert_eq!(
        fs::read_to_string(&history).unwrap(),
        "\"Are you there?\"\n\"/quit\"\n\"Are you there?\"\n"
    );
    assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Runs `infernet` with a text on stdin, to its end.
async fn piped(home: &NodeHome, arguments: &[&str], text: &str) -> Output {
    let mut child = command(home, arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that asks nothing of its stdin may be gone before all is written.
    let _ = stdin.write_all(text.as_bytes()).await;
    drop(stdin);
    soon("the program ends", child.wait_with_output()).await.unwrap()
}

fn command(home: &NodeHome, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("infernet"));
    command
        .env_clear()
        .arg("--home")
        .arg(home.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_question_in_pipes() {
    let homes: [NodeHome; 3] = Default::default();
    let hub = Process::bootstrap(&homes[0]).await;
    let echo = Script {
        reply: Reply::Echo,
        ..Script::default()
    };
    let engine = Engine::start(echo).await;
    let provider = Process::provider(&homes[1], hub.address(), engine.address()).await;
    let flags = joining(hub.address());
    let with = |more: &[&'static str]| flags.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    let said = |output: Output| {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };

    assert_eq!(
        said(piped(&homes[2], &with(&["what is it?"]), "").await),
        "what is it?\n"
    );
    assert_eq!(said(piped(&homes[2], &flags, "what is it?\n").await), "what is it?\n");
    let both = piped(&homes[2], &with(&["Summarise:"]), "one\ntwo\n").await;
    assert_eq!(said(both), "Summarise:\n\none\ntwo\n");
    let empty = piped(&homes[2], &flags, " \n").await;
    assert_eq!(empty.status.code(), Some(2), "{empty:?}");

    let chunks = said(piped(&homes[2], &with(&["--json", "word"]), "").await);
    let chunks: Vec<Value> = chunks.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(
        (text.as_str(), &usage["infernet"]["cost_microusd"]),
        ("word", &0.into())
    );

    let nobody = piped(&homes[2], &with(&["--model", "scriptde", "x"]), "").await;
    assert_eq!(nobody.status.code(), Some(69), "{nobody:?}");
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("did you mean `scripted`"),
        "{nobody:?}"
    );
    let only: Vec<&str> = with(&["x", "--provider"]).into_iter().chain([hub.peer_id()]).collect();
    let nobody = piped(&homes[2], &only, "").await;
    assert_eq!(nobody.status.code(), Some(69), "the hub sells nothing: {nobody:?}");
    let only: Vec<&str> = with(&["x", "--provider"])
        .into_iter()
        .chain([provider.peer_id()])
        .collect();
    assert_eq!(said(piped(&homes[2], &only, "").await), "x\n");

    engine.scripted.follow(endless());
    let mut child = command(&homes[2], &with(&["x"])).stdin(Stdio::null()).spawn().unwrap();
    let mut first = [0; 4];
    let stdout = child.stdout.as_mut().unwrap();
    soon("text", tokio::io::AsyncReadExt::read_exact(stdout, &mut first))
        .await
        .unwrap();
    let interrupt = format!("kill -INT {}", child.id().unwrap());
    let sent = Command::new("sh").args(["-c", &interrupt]).status().await.unwrap();
    assert!(sent.success());
    let ended = soon("the program ends", child.wait_with_output()).await.unwrap();
    assert_eq!(
        ended.status.code(),
        Some(130),
        "{:?}",
        String::from_utf8_lossy(&ended.stderr)
    );
    engine
        .until("the engine stops", |counts| {
            counts.running == 0 && counts.cancelled == 1
        })
        .await;
}
