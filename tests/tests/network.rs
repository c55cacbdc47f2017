//! Ring `network`: real nodes in one process.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infernet_inference::scripted::{Fault, Reply, Script, ScriptedBackend};
use infernet_inference::{Endpoint, Request};
use infernet_node::Unplaced;
use infernet_node::buyer::consumer::Said;
use infernet_node::buyer::{BuyError, Purchase};
use infernet_node::home::Home;
use infernet_node::node::{Node, Settings};
use infernet_node::runtime::Tasks;
use infernet_node::store::{Query, Store};
use infernet_protocol::receipt::Status;
use infernet_protocol::{MicroUsd, ModelId, Price};
use infernet_tests::hostile::{Buyer, Raw};
use infernet_tests::network::{PATIENCE, chat, consumer, provider, selling, settings, start, whole};

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_bought_and_receipted() {
    in_time(async {
        let hub = consumer(1, &[]).await;
        let at = hub.listening().await.unwrap();
        let one = provider(2, &at, Script::default()).await;
        let two = provider(3, &at, Script::default()).await;
        let buyer = consumer(4, &at).await;
        for _ in 0..3 {
            let (bytes, ended) = whole(buyer.buy(chat("hello"))).await;
            let summary = ended.unwrap();
            assert!(String::from_utf8_lossy(&bytes).contains("[DONE]"));
            assert_eq!(summary.usage.output_tokens, 16);
            assert_eq!(summary.attempts, 1);
        }
        let ran = |peer: &infernet_tests::network::Peer| peer.engine.as_ref().unwrap().counts().completed;
        assert_eq!(ran(&one) + ran(&two), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_above_what_a_model_gives_is_kept_by_what_it_gives() {
    in_time(async {
        let hub = consumer(5, &[]).await;
        let at = hub.listening().await.unwrap();
        let short = Script {
            context: 64,
            reply: Reply::Words(1_000),
            ..Script::default()
        };
        let _provider = provider(6, &at, short).await;
        let buyer = consumer(7, &at).await;
        let asked = |fields: &str| {
            let body = format!(
                r#"{{"model":"scripted","stream":true,{fields},"messages":[{{"role":"user","content":"hello"}}]}}"#
            );
            let request = Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
            Purchase {
                max_output: request.max_output.map(|tokens| tokens.saturating_mul(request.choices)),
                body: body.into(),
                ..chat("hello")
            }
        };
        let (_, ended) = whole(buyer.buy(asked(r#""max_tokens":1000000"#))).await;
        assert_eq!(ended.unwrap().usage.output_tokens, 64);
        let (_, ended) = whole(buyer.buy(asked(r#""n":5,"max_tokens":1000000"#))).await;
        assert!(ended.unwrap_err().to_string().contains("lower `n`"));
        let (_, ended) = whole(buyer.buy(asked(r#""n":5,"max_tokens":8"#))).await;
        ended.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_before_its_first_token_is_replaced() {
    in_time(async {
        let hub = consumer(11, &[]).await;
        let at = hub.listening().await.unwrap();
        let bad = Script {
            fault: Some(Fault::Break(0)),
            ..Script::default()
        };
        let _bad = provider(12, &at, bad).await;
        let good = provider(13, &at, Script::default()).await;
        let buyer = consumer(14, &at).await;
        for _ in 0..4 {
            let (_, ended) = whole(buyer.buy(chat("hello"))).await;
            ended.unwrap();
        }
        assert_eq!(good.engine.unwrap().counts().completed, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_provider_serves_those_who_wait() {
    in_time(async {
        let hub = consumer(21, &[]).await;
        let at = hub.listening().await.unwrap();
        let engine = ScriptedBackend::new(Script {
            slots: Some(1),
            first_token_ms: 30,
            ..Script::default()
        });
        let seller = start(Settings {
            selling: Some(selling(Arc::new(engine.clone()))),
            ..settings(22, &at)
        })
        .await;
        let buyers = [
            consumer(23, &at).await,
            consumer(24, &at).await,
            consumer(25, &at).await,
        ];
        let asked = buyers.iter().map(|buyer| whole(buyer.buy(chat("hello"))));
        for (bytes, ended) in futures::future::join_all(asked).await {
            ended.unwrap();
            assert!(bytes.ends_with(b"data: [DONE]\n\n"));
        }
        let counts = engine.counts();
        assert_eq!((counts.completed, counts.most_running), (3, 1));
        assert_eq!(seller.load().running, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_hangs_ends_in_an_error_at_the_deadline() {
    in_time(async {
        let hub = consumer(31, &[]).await;
        let at = hub.listening().await.unwrap();
        let hang = |after| Script {
            fault: Some(Fault::Hang(after)),
            ..Script::default()
        };
        let hung = provider(32, &at, hang(3)).await;
        let engine = hung.engine.unwrap();
        let buyer = consumer(33, &at).await;
        for after in [3, 0] {
            engine.follow(hang(after));
            let purchase = Purchase {
                deadline: Instant::now() + Duration::from_secs(3),
                ..chat("hello")
            };
            let (bytes, ended) = whole(buyer.buy(purchase)).await;
            let delivered = after > 0;
            assert_eq!(!bytes.is_empty(), delivered);
            assert!(
                matches!(ended, Err(BuyError::Deadline { delivered: told }) if told == delivered),
                "{ended:?}"
            );
            engine.observe().wait_for(|counts| counts.running == 0).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_goes_away_cancels_and_is_receipted_on_both_sides() {
    in_time(async {
        let hub = consumer(41, &[]).await;
        let at = hub.listening().await.unwrap();
        let slow = Script {
            reply: Reply::Words(100_000),
            token_ms: 5,
            ..Script::default()
        };
        let seller = provider(42, &at, slow).await;
        let engine = seller.engine.unwrap();
        let buyer = consumer(43, &at).await;
        let mut happened = [buyer.happenings(), seller.node.happenings()];
        let mut answer = buyer.buy(chat("hello"));
        assert!(matches!(answer.said.recv().await, Some(Said::Data(_))));
        drop(answer);
        engine
            .observe()
            .wait_for(|counts| counts.cancelled == 1 && counts.running == 0)
            .await
            .unwrap();
        for happened in &mut happened {
            loop {
                if let infernet_node::happenings::Happening::Settled { receipt, countersign } =
                    happened.recv().await.unwrap()
                {
                    assert_eq!((receipt.step.status, countersign.dispute), (Status::Cancelled, None));
                    assert!(receipt.step.output_tokens > 0);
                    break;
                }
            }
        }
        let rows = |node: &Arc<Node>| {
            let store = node.store().clone();
            async move { store.rows(Query::default()).await.unwrap() }
        };
        let (bought, sold) = (rows(&buyer).await, rows(&seller.node).await);
        assert_eq!((bought.len(), bought[0].hash), (1, sold[0].hash));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_bought_is_said_in_so_many_words() {
    in_time(async {
        let hub = consumer(51, &[]).await;
        let at = hub.listening().await.unwrap();
        let engine = ScriptedBackend::new(Script::default());
        let mut dear = selling(Arc::new(engine.clone()));
        dear.price = Price {
            output: MicroUsd(500_000),
            ..Price::FREE
        };
        let seller = start(Settings {
            selling: Some(dear),
            ..settings(52, &at)
        })
        .await;
        let buyer = consumer(53, &at).await;
        let purchase = chat("hello");
        buyer.until_served(&purchase.model, 1).await;
        let (_, ended) = whole(buyer.buy(purchase)).await;
        let cheapest = match ended {
            Err(BuyError::Unplaced(Unplaced::TooDear { cheapest, .. })) => cheapest,
            other => panic!("{other:?}"),
        };
        assert_eq!(cheapest.output, MicroUsd(500_000));
        let left_out = Purchase {
            ignore: vec![seller.id()],
            ..chat("hello")
        };
        let (_, ended) = whole(buyer.buy(left_out)).await;
        assert!(
            matches!(&ended, Err(BuyError::Unplaced(Unplaced::LeftOut { .. }))),
            "{ended:?}"
        );
        let unknown = Purchase {
            model: ModelId::new("scriptd").unwrap(),
            ..chat("hello")
        };
        let (_, ended) = whole(buyer.buy(unknown)).await;
        assert!(
            matches!(&ended, Err(BuyError::Unplaced(Unplaced::NobodyServes { near, .. })) if near.len() == 1),
            "{ended:?}"
        );
        assert_eq!(engine.counts().started, 0);
    })
    .await;
}

/// Keeps every line of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while logging").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn holds(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

fn search(directory: &Path, found: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            search(&path, found);
        } else if let Ok(bytes) = std::fs::read(&path) {
            found(&path, &bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_the_two_sees_a_byte_of_prompt_or_answer() {
    const ASKED: &str = "canary-prompt-7f3a9";
    const SAID: &str = "canary-answer-51c0e";
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    in_time(async {
        let hub = consumer(61, &[]).await;
        let at = hub.listening().await.unwrap();
        let watcher = Raw::start(62, &at, Buyer).await;
        let engine = ScriptedBackend::new(Script {
            reply: Reply::Text(format!("I say {SAID} and no more")),
            ..Script::default()
        });
        let homes = [Home::temporary().unwrap(), Home::temporary().unwrap()];
        let begin = async |home: &Home, settings: Settings| {
            let (store, recovered) = Store::open(&home.lock().unwrap(), &settings.network).unwrap();
            Node::start(settings, store, recovered, Tasks::new()).await.unwrap()
        };
        let selling = Some(selling(Arc::new(engine.clone())));
        let seller = begin(
            &homes[0],
            Settings {
                selling,
                ..settings(63, &at)
            },
        )
        .await;
        let buyer = begin(&homes[1], settings(64, &at)).await;
        for _ in 0..3 {
            let (bytes, ended) = whole(buyer.buy(chat(ASKED))).await;
            ended.unwrap();
            assert!(holds(&bytes, SAID), "the consumer sees the answer");
        }
        // The engine may also fail, and a refusal is logged.
        engine.follow(Script {
            fault: Some(Fault::Break(2)),
            ..Script::default()
        });
        whole(buyer.buy(chat(ASKED))).await.1.unwrap_err();
        buyer.stop().await;
        seller.stop().await;

        let heard = watcher.heard();
        assert!(
            heard.len() >= 3,
            "the watcher hears offers, bids and accepts: {}",
            heard.len()
        );
        let logged = log.0.lock().unwrap().clone();
        assert!(holds(&logged, "lease bought"), "the log is whole");
        let mut files = 0;
        for canary in [ASKED, SAID] {
            assert!(
                !heard.iter().any(|message| holds(message, canary)),
                "`{canary}` was on gossip"
            );
            assert!(
                !holds(&logged, canary),
                "`{canary}` is in the log: {}",
                context(&logged, canary)
            );
            for home in &homes {
                search(home.path(), &mut |path, bytes| {
                    files += 1;
                    assert!(!holds(bytes, canary), "`{canary}` is in {}", path.display());
                });
            }
        }
        assert!(files >= 4, "both stores have files");
    })
    .await;
}

/// The line of the log that holds it.
fn context(log: &[u8], canary: &str) -> String {
    let text = String::from_utf8_lossy(log);
    text.lines()
        .find(|line| line.contains(canary))
        .unwrap_or_default()
        .to_owned()
}
