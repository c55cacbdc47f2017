//! Ring `network`: names, this node's own engines, services outside, and engines that come and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Json, Router as Http};
use bytes::Bytes;
use futures::StreamExt as _;
use infernet_inference::detect::{BackendKind, Candidate};
use infernet_inference::scripted::{Fault, Script, ScriptedBackend};
use infernet_inference::{Endpoint, Request};
use infernet_node::Sources;
use infernet_node::gateway::{InferError, Inference, InferenceRequest, Part, Preferences, Reply, Source};
use infernet_node::node::{Node, Settings};
use infernet_node::routing::{Names, Outside, Router};
use infernet_node::service::Service;
use infernet_protocol::auction::Policy;
use infernet_protocol::{MicroUsd, ModelId, Price};
use infernet_swarm::Multiaddr;
use infernet_tests::network::{PATIENCE, consumer, provider, selling, settings, start};

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn router(node: &Arc<Node>) -> Router {
    let service = Service::new(node.clone(), Policy::Balanced, Price::FREE);
    Router::new(node.clone(), service)
}

fn asked(model: &str) -> InferenceRequest {
    let body = format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"x"}}]}}"#);
    InferenceRequest {
        model: ModelId::new(model).expect("a good name"),
        request: Request::read(Endpoint::ChatCompletions, body.as_bytes()).expect("a good request"),
        body: Bytes::from(body),
        preferences: Preferences::default(),
        background: false,
        caller: None,
        deadline: Instant::now() + PATIENCE,
    }
}

/// How an answer ended, and its bytes.
async fn whole(reply: Reply) -> (String, Result<(), InferError>) {
    let mut body = reply.body;
    let mut text = Vec::new();
    while let Some(part) = body.next().await {
        match part {
            Ok(Part::Data(bytes)) => text.extend_from_slice(&bytes),
            Ok(Part::End(_)) => return (String::from_utf8(text).expect("UTF-8"), Ok(())),
            Err(error) => return (String::from_utf8(text).expect("UTF-8"), Err(error)),
        }
    }
    panic!("an answer never ends silently")
}

fn engine(model: &str) -> ScriptedBackend {
    ScriptedBackend::new(Script {
        models: vec![model.to_owned()],
        ..Script::default()
    })
}

/// An engine that never comes to its second token.
fn slow_engine() -> ScriptedBackend {
    ScriptedBackend::new(Script {
        token_ms: 60_000,
        ..Script::default()
    })
}

/// A node that sells so many slots of an engine.
async fn seller(number: u8, bootstrap: &[Multiaddr], engine: &ScriptedBackend, slots: u16) -> Arc<Node> {
    let mut offered = selling(Arc::new(engine.clone()));
    offered.slots = Some(slots);
    start(Settings {
        selling: Some(offered),
        ..settings(number, bootstrap)
    })
    .await
}

fn sources(engine: &ScriptedBackend) -> Sources {
    Sources {
        backends: vec![Arc::new(engine.clone())],
        ..Sources::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_goes_to_the_first_model_that_can_be_had() {
    in_time(async {
        let hub = consumer(1, &[]).await;
        let at = hub.listening().await.unwrap();
        let one = provider(2, &at, Script::default()).await;
        let buyer = consumer(3, &at).await;
        buyer.until_served(&ModelId::new("scripted").unwrap(), 1).await;
        let names = Names::parse(&["work = nowhere > scripted".to_owned()]).unwrap();
        let router = router(&buyer).names(names);
        let reply = router.infer(asked("work")).await.unwrap();
        assert_eq!((reply.model.as_str(), &reply.source), ("scripted", &Source::Network));
        whole(reply).await.1.unwrap();
        let reply = router.infer(asked("fast")).await.unwrap();
        assert_eq!(reply.model.as_str(), "scripted");
        whole(reply).await.1.unwrap();

        let mut strict = asked("work");
        strict.preferences.fallbacks_refused = true;
        let refused = router.infer(strict).await.unwrap_err();
        assert!(matches!(refused, InferError::NobodyServes { model, .. } if model == "nowhere"));
        assert_eq!(one.engine.unwrap().counts().started, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_nodes_own_engine_goes_first_where_that_is_wanted_and_it_is_free() {
    in_time(async {
        let own = engine("scripted");
        let hub = consumer(11, &[]).await;
        let at = hub.listening().await.unwrap();
        let one = provider(12, &at, Script::default()).await;
        let theirs = one.engine.unwrap();
        let node = start(Settings {
            own: sources(&own),
            ..settings(13, &at)
        })
        .await;
        node.until_served(&ModelId::new("scripted").unwrap(), 1).await;
        let network_first = router(&node);
        let reply = network_first.infer(asked("scripted")).await.unwrap();
        assert_eq!(reply.source, Source::Network, "only where it is wanted");
        whole(reply).await.1.unwrap();

        let router = router(&node).local_first(true);
        let reply = router.infer(asked("scripted")).await.unwrap();
        assert_eq!((reply.source.clone(), reply.provider.clone()), (Source::Local, None));
        let (text, ended) = whole(reply).await;
        ended.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"));
        assert_eq!((own.counts().started, theirs.counts().started), (1, 1));
        let mut kept_out = asked("scripted");
        kept_out.preferences.ignore = vec![one.node.id()];
        let reply = network_first.infer(kept_out).await.unwrap();
        assert_eq!(reply.source, Source::Local, "or where the network cannot");
        whole(reply).await.1.unwrap();
        let mut for_others = asked("scripted");
        for_others.preferences.ignore = vec![one.node.id(), node.id()];
        let refused = network_first.infer(for_others).await.unwrap_err();
        assert!(matches!(refused, InferError::LeftOut { .. }), "{refused:?}");

        own.follow(Script {
            slots: Some(0),
            ..Script::default()
        });
        let reply = router.infer(asked("scripted")).await.unwrap();
        assert_eq!(reply.source, Source::Network, "it is full");
        whole(reply).await.1.unwrap();
        assert_eq!(
            node.ads().iter().filter(|ad| ad.signer() == node.id()).count(),
            0,
            "it sells nothing"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seller_lends_its_own_slots_to_its_own_consumers() {
    in_time(async {
        let engine = slow_engine();
        let node = seller(21, &[], &engine, 1).await;
        let names = Names::parse(&["mine = elsewhere > scripted".into()]).unwrap();
        let router = router(&node).names(names);
        let listed: Vec<_> = router.models().await.into_iter().map(|model| model.id).collect();
        assert_eq!(listed, [ModelId::new("scripted").unwrap()], "nobody else serves it");
        for name in ["mine", "fast"] {
            let meant = router.model(&ModelId::new(name).unwrap()).await.unwrap();
            assert_eq!(meant.id.as_str(), "scripted", "{name}");
        }
        let reply = router.infer(asked("scripted")).await.unwrap();
        assert_eq!((reply.source.clone(), node.load().slots), (Source::Local, 0));
        drop(reply);
        assert_eq!(node.load().slots, 1, "a consumer that goes away gives its slot back");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_seller_has_its_answer_when_a_slot_is_free() {
    in_time(async {
        let engine = slow_engine();
        let node = seller(41, &[], &engine, 1).await;
        let router = router(&node);
        let first = router.infer(asked("scripted")).await.unwrap();
        engine.follow(Script::default());
        let mut late = asked("scripted");
        late.deadline = Instant::now() + Duration::from_millis(200);
        let refused = router.infer(late).await.unwrap_err();
        assert!(
            matches!(refused, InferError::Deadline { delivered: false }),
            "{refused:?}"
        );
        let waits = router.infer(asked("scripted"));
        let frees = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        let (answered, ()) = tokio::join!(waits, frees);
        whole(answered.unwrap()).await.1.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_leave_slots_to_others_and_a_request_may_name_its_own_node() {
    in_time(async {
        let engine = slow_engine();
        let node = seller(45, &[], &engine, 4).await;
        let router = router(&node);
        let line = || InferenceRequest {
            background: true,
            deadline: Instant::now() + Duration::from_millis(300),
            ..asked("scripted")
        };
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(router.infer(line()).await.unwrap());
        }
        let refused = router.infer(line()).await.unwrap_err();
        assert!(matches!(refused, InferError::Deadline { .. }), "{refused:?}");

        let mut elsewhere = asked("scripted");
        elsewhere.preferences.fallbacks_refused = true;
        let refused = router.infer(elsewhere).await.unwrap_err();
        assert!(matches!(refused, InferError::LeftOut { .. }), "{refused:?}");
        let mut named = asked("scripted");
        named.preferences.only = vec![node.id()];
        named.preferences.fallbacks_refused = true;
        held.push(router.infer(named).await.unwrap());
        assert_eq!(held[3].source, Source::Local);
        drop(held);
        node.stop().await;
        let refused = router.infer(line()).await.unwrap_err();
        assert!(matches!(refused, InferError::NobodyFree { .. }), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlasts_the_stop_of_its_node_ends_in_an_error() {
    in_time(async {
        let seller = seller(46, &[], &slow_engine(), 4).await;
        let buyer = consumer(47, &seller.listening().await.unwrap()).await;
        buyer.until_served(&ModelId::new("scripted").unwrap(), 1).await;
        let bought = router(&buyer).infer(asked("scripted")).await.unwrap();
        let own = router(&seller).infer(asked("scripted")).await.unwrap();
        assert_eq!((&bought.source, &own.source), (&Source::Network, &Source::Local));
        let (_, _, (told, bought), (_, own)) = tokio::join!(buyer.stop(), seller.stop(), whole(bought), whole(own));
        assert!(told.starts_with("data: "), "it had begun: {told}");
        for ended in [bought, own] {
            assert!(matches!(ended, Err(InferError::Internal(_))), "{ended:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_of_ones_own_does_not_lie_idle_while_the_network_is_busy() {
    in_time(async {
        let hub = consumer(51, &[]).await;
        let at = hub.listening().await.unwrap();
        let theirs = slow_engine();
        let _one = seller(52, &at, &theirs, 1).await;
        let ours = engine("scripted");
        let node = start(Settings {
            selling: Some(selling(Arc::new(ours.clone()))),
            ..settings(53, &at)
        })
        .await;
        node.until_served(&ModelId::new("scripted").unwrap(), 1).await;
        let router = router(&node);
        let held = router.infer(asked("scripted")).await.unwrap();
        assert_eq!(held.source, Source::Network);
        let reply = router.infer(asked("scripted")).await.unwrap();
        assert_eq!(reply.source, Source::Local, "nobody else is free");
        whole(reply).await.1.unwrap();
        assert_eq!((theirs.counts().started, ours.counts().started), (1, 1));
        drop(held);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_says_what_it_would_cost() {
    in_time(async {
        let mut offered = selling(Arc::new(engine("scripted")));
        offered.price.output = MicroUsd(600_000);
        let dear = start(Settings {
            selling: Some(offered),
            ..settings(71, &[])
        })
        .await;
        let buyer = consumer(72, &dear.listening().await.unwrap()).await;
        buyer.until_served(&ModelId::new("scripted").unwrap(), 1).await;
        let meant = router(&buyer).model(&ModelId::new("cheap").unwrap()).await.unwrap();
        assert_eq!(
            meant.price.output,
            MicroUsd(600_000),
            "what it stands for is told all the same"
        );
        let refused = router(&buyer).infer(asked("fast")).await.unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("`fast` asks for more than your price cap ($0 in, $0.6"),
            "{refused}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_own_engine_lacks_is_named() {
    in_time(async {
        let own = engine("scripted");
        let node = start(Settings {
            own: sources(&own),
            ..settings(61, &[])
        })
        .await;
        let router = router(&node);
        let lacking = |refused: InferError| match refused {
            InferError::Unfit { needs, .. } => needs,
            other => panic!("{other:?}"),
        };
        let with = |fields: &str, model: &str| {
            let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}]{fields}}}"#);
            InferenceRequest {
                request: Request::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap(),
                body: Bytes::from(body),
                ..asked(model)
            }
        };
        let tools = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
        for model in ["scripted", "fast"] {
            let refused = router.infer(with(tools, model)).await.unwrap_err();
            assert_eq!(lacking(refused), "tools", "{model}");
        }
        let mut fine = asked("scripted");
        fine.preferences.quantisations = vec!["q8_0".to_owned()];
        assert_eq!(lacking(router.infer(fine).await.unwrap_err()), "q8_0");
        assert_eq!(own.counts().started, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_outside_answers_only_what_the_network_cannot() {
    in_time(async {
        let hub = consumer(31, &[]).await;
        let at = hub.listening().await.unwrap();
        let one = provider(32, &at, Script::default()).await;
        let buyer = consumer(33, &at).await;
        buyer.until_served(&ModelId::new("scripted").unwrap(), 1).await;
        let service = engine("theirs");
        let outside = |model: Option<&str>| {
            vec![Outside {
                name: "nim",
                backend: Arc::new(service.clone()),
                model: model.map(str::to_owned),
            }]
        };
        let with = router(&buyer).outside(outside(Some("theirs")));
        let reply = with.infer(asked("scripted")).await.unwrap();
        assert_eq!(reply.source, Source::Network);
        whole(reply).await.1.unwrap();

        let reply = with.infer(asked("unknown")).await.unwrap();
        assert_eq!(reply.source.to_string(), "fallback:nim");
        assert_eq!(reply.model.as_str(), "theirs", "the badge names what answers");
        whole(reply).await.1.unwrap();
        let mut choosy = asked("fast");
        choosy.request.context = u32::MAX;
        let reply = with.infer(choosy).await.unwrap();
        assert_eq!(
            reply.model.as_str(),
            "theirs",
            "nothing on the network is fast enough, nor anything"
        );
        whole(reply).await.1.unwrap();

        let mut strict = asked("unknown");
        strict.preferences.fallbacks_refused = true;
        assert!(matches!(with.infer(strict).await, Err(InferError::NobodyServes { .. })));
        let without = router(&buyer);
        assert!(matches!(
            without.infer(asked("unknown")).await,
            Err(InferError::NobodyServes { .. })
        ));

        // What was begun on the network is not begun again elsewhere.
        one.engine.unwrap().follow(Script {
            fault: Some(Fault::Break(2)),
            ..Script::default()
        });
        let reply = with.infer(asked("scripted")).await.unwrap();
        let (_, ended) = whole(reply).await;
        assert!(
            matches!(ended, Err(InferError::Failed { delivered: true, .. })),
            "{ended:?}"
        );
        assert_eq!(service.counts().started, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_appears_is_sold_and_one_that_vanishes_is_withdrawn() {
    in_time(async {
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let hub = consumer(41, &[]).await;
        let at = hub.listening().await.unwrap();
        let mut offered = selling(Arc::new(engine("unused")));
        offered.engines = Sources {
            backends: Vec::new(),
            candidates: vec![Candidate {
                kind: BackendKind::OpenAi,
                address: format!("http://{address}"),
                api_key: None,
                named: true,
            }],
        };
        let _seller = start(Settings {
            selling: Some(offered),
            ..settings(42, &at)
        })
        .await;
        let buyer = consumer(43, &at).await;
        assert!(buyer.ads().is_empty());

        let listed =
            serde_json::json!({"object": "list", "data": [{"id": "late", "object": "model", "owned_by": "x"}]});
        let server = Http::new().route("/v1/models", get(async || Json(listed)));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let serving = axum::serve(listener, server).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let until = async {
            let model = ModelId::new("late").unwrap();
            buyer.until_served(&model, 1).await;
            drop(stop);
            buyer.until_withdrawn(&model).await;
        };
        let (served, ()) = tokio::join!(serving, until);
        served.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_stops_is_known_to_be_gone_before_its_ad_is_old() {
    in_time(async {
        let hub = consumer(44, &[]).await;
        let at = hub.listening().await.unwrap();
        let seller = provider(45, &at, Script::default()).await;
        let buyer = consumer(46, &at).await;
        let model = ModelId::new("scripted").unwrap();
        buyer.until_served(&model, 1).await;
        seller.node.stop().await;
        buyer.until_withdrawn(&model).await;
    })
    .await;
}
