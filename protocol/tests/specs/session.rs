//! The two ends of a substream: each frame in its place, each frame out of it, and two honest ends that never refuse
//! each other whatever they choose to say.

use std::collections::VecDeque;

use infernet_protocol::codec::Blob;
use infernet_protocol::stream::frames::{
    Beat, Body, BuyerFrame, Cancel, Data, Enclosed, End, Endpoint, Fail, FailCode, Head, Reconcile, Request, Resume,
    Start, Usage, Voucher, WorkerFrame,
};
use infernet_protocol::stream::session::{BuyerSession, ToBuyer, ToWorker, Violation, WorkerSession};
use infernet_protocol::{Digest, JobId, LeaseId, RequestId};
use proptest::prelude::*;

use crate::sample::text;

const LEASE: LeaseId = LeaseId {
    job: JobId([1; 16]),
    attempt: 0,
};

fn id(n: u8) -> RequestId {
    RequestId([n; 16])
}

fn start() -> BuyerFrame {
    Start {
        accept: Blob(vec![1]),
        bid: Blob(vec![2]),
        offer: Blob(vec![3]),
    }
    .into()
}

fn request(n: u8, length: u64) -> BuyerFrame {
    Request {
        request: id(n),
        endpoint: Endpoint::ChatCompletions,
        salt: [0; 32],
        length,
        continuation: None,
    }
    .into()
}

fn body(bytes: &[u8]) -> BuyerFrame {
    Body {
        bytes: Blob(bytes.to_vec()),
    }
    .into()
}

fn cancel(n: u8) -> BuyerFrame {
    Cancel { request: id(n) }.into()
}

fn resume(n: u8, next: u64) -> BuyerFrame {
    Resume { request: id(n), next }.into()
}

fn book() -> Reconcile {
    Reconcile {
        lease: LEASE,
        held: 0,
        hash: Digest([0; 32]),
        open: Default::default(),
    }
}

fn enclosed() -> Enclosed {
    Enclosed {
        envelope: Blob(vec![9]),
    }
}

fn voucher() -> BuyerFrame {
    Voucher {
        lease: LEASE,
        voucher: Blob::default(),
    }
    .into()
}

fn head() -> WorkerFrame {
    Head {
        status: 200,
        content_type: text("text/event-stream"),
    }
    .into()
}

fn data(frame: u64) -> WorkerFrame {
    Data {
        frame,
        bytes: Blob(vec![7]),
        tokens: None,
    }
    .into()
}

fn end(frames: u64) -> WorkerFrame {
    End { frames }.into()
}

fn usage() -> WorkerFrame {
    Usage {
        input_tokens: 1,
        output_tokens: 2,
    }
    .into()
}

fn fail(delivered: bool) -> WorkerFrame {
    Fail {
        code: FailCode::Engine,
        message: text(""),
        status: 502,
        retryable: true,
        delivered,
    }
    .into()
}

fn beat() -> WorkerFrame {
    Beat { next: 0 }.into()
}

fn receipt() -> WorkerFrame {
    WorkerFrame::Receipt(enclosed())
}

fn started() -> WorkerSession {
    let mut session = WorkerSession::default();
    session.on_frame(start()).unwrap();
    session
}

#[test]
fn a_request_runs_when_its_body_is_whole() {
    let mut session = started();
    assert_eq!(session.on_frame(request(1, 5)), Ok(ToWorker::MoreBody));
    assert_eq!(session.on_frame(body(b"he")), Ok(ToWorker::MoreBody));
    let Ok(ToWorker::Run(request, whole)) = session.on_frame(body(b"llo")) else {
        panic!("the body is whole");
    };
    assert_eq!((request.request, whole.as_slice()), (id(1), &b"hello"[..]));
}

#[test]
fn a_request_without_body_runs_at_once() {
    let mut session = started();
    assert!(matches!(session.on_frame(request(1, 0)), Ok(ToWorker::Run(_, body)) if body.is_empty()));
}

#[test]
fn nothing_but_books_comes_before_start() {
    for (name, frame) in [
        ("request", request(1, 0)),
        ("body", body(b"")),
        ("resume", resume(1, 0)),
        ("cancel", cancel(1)),
    ] {
        assert_eq!(
            WorkerSession::default().on_frame(frame),
            Err(Violation::BeforeStart(name))
        );
    }
    let mut session = WorkerSession::default();
    assert!(matches!(session.on_frame(book().into()), Ok(ToWorker::Reconcile(_))));
    assert!(matches!(
        session.on_frame(BuyerFrame::Countersign(enclosed())),
        Ok(ToWorker::Countersign(_))
    ));
    assert!(matches!(session.on_frame(voucher()), Ok(ToWorker::Voucher(_))));
    assert!(matches!(session.on_frame(start()), Ok(ToWorker::Start(_))));
}

#[test]
fn start_comes_once() {
    assert_eq!(started().on_frame(start()), Err(Violation::SecondStart));
}

#[test]
fn one_request_at_a_time() {
    let out_of_place = |frame, state| Err(Violation::OutOfPlace { frame, state });
    let mut session = started();
    assert_eq!(session.on_frame(body(b"x")), out_of_place("body", "no request runs"));
    session.on_frame(request(1, 2)).unwrap();
    assert_eq!(
        session.on_frame(request(2, 0)),
        out_of_place("request", "a body is under way")
    );
    assert_eq!(
        session.on_frame(resume(2, 0)),
        out_of_place("resume", "a body is under way")
    );
    session.on_frame(body(b"xy")).unwrap();
    assert_eq!(session.on_frame(body(b"z")), out_of_place("body", "a request runs"));
    assert_eq!(
        session.on_frame(request(2, 0)),
        out_of_place("request", "a request runs")
    );
    assert_eq!(session.on_frame(resume(2, 0)), out_of_place("resume", "a request runs"));
    session.finished();
    assert!(session.on_frame(request(2, 0)).is_ok());
}

#[test]
fn a_body_is_what_the_request_said_and_within_the_limit() {
    let most = 32 * 1024 * 1024;
    assert_eq!(
        started().on_frame(request(1, most + 1)),
        Err(Violation::BodyTooLarge(most + 1))
    );
    assert_eq!(started().on_frame(request(1, most)), Ok(ToWorker::MoreBody));
    let mut session = started();
    session.on_frame(request(1, 3)).unwrap();
    session.on_frame(body(b"ab")).unwrap();
    assert_eq!(session.on_frame(body(b"cd")), Err(Violation::BodyTooLong));
}

#[test]
fn a_cancel_stops_the_request_it_names() {
    let mut session = started();
    assert_eq!(session.on_frame(cancel(1)), Ok(ToWorker::CancelTooLate));
    session.on_frame(request(1, 0)).unwrap();
    assert_eq!(session.on_frame(cancel(2)), Ok(ToWorker::CancelTooLate));
    assert!(matches!(session.on_frame(cancel(1)), Ok(ToWorker::Cancel(_))));
    session.finished();
    assert_eq!(session.on_frame(cancel(1)), Ok(ToWorker::CancelTooLate));
}

#[test]
fn a_cancel_within_the_body_takes_the_request_back() {
    let mut session = started();
    session.on_frame(request(1, 10)).unwrap();
    session.on_frame(body(b"abc")).unwrap();
    assert_eq!(session.on_frame(cancel(1)), Ok(ToWorker::CancelTooLate));
    assert!(matches!(session.on_frame(request(2, 0)), Ok(ToWorker::Run(..))));
}

#[test]
fn a_resumed_request_can_be_cancelled() {
    let mut session = started();
    assert!(matches!(session.on_frame(resume(1, 7)), Ok(ToWorker::Resume(_))));
    assert!(matches!(session.on_frame(cancel(1)), Ok(ToWorker::Cancel(_))));
}

fn asked() -> BuyerSession {
    let mut session = BuyerSession::default();
    session.requested();
    session
}

fn hear(session: &mut BuyerSession, frames: impl IntoIterator<Item = WorkerFrame>) -> Result<(), Violation> {
    frames
        .into_iter()
        .try_for_each(|frame| session.on_frame(frame).map(drop))
}

#[test]
fn an_answer_ends_in_its_receipt() {
    let mut session = asked();
    hear(
        &mut session,
        [beat(), head(), data(0), beat(), data(1), end(2), usage(), beat()],
    )
    .unwrap();
    assert!(!session.is_idle());
    assert!(matches!(session.on_frame(receipt()), Ok(ToBuyer::Receipt(_))));
    assert!(session.is_idle());
}

#[test]
fn an_answer_that_never_began_ends_in_its_receipt_too() {
    let mut session = asked();
    hear(&mut session, [end(0), usage(), receipt()]).unwrap();
    assert!(session.is_idle());
}

#[test]
fn a_failure_is_the_end_unless_something_was_delivered() {
    for said in [vec![], vec![head()]] {
        let mut session = asked();
        hear(&mut session, said).unwrap();
        session.on_frame(fail(false)).unwrap();
        assert!(session.is_idle());
    }
    let mut session = asked();
    hear(&mut session, [head(), data(0), fail(true)]).unwrap();
    assert!(!session.is_idle());
    hear(&mut session, [usage(), receipt()]).unwrap();
    assert!(session.is_idle());
}

#[test]
fn a_refused_start_fails_without_a_request() {
    assert!(matches!(
        BuyerSession::default().on_frame(fail(false)),
        Ok(ToBuyer::Fail(_))
    ));
}

#[test]
fn data_comes_in_order_and_is_counted() {
    let mut session = asked();
    session.on_frame(head()).unwrap();
    assert_eq!(
        session.on_frame(data(1)),
        Err(Violation::FrameOrder { expected: 0, found: 1 })
    );
    session.on_frame(data(0)).unwrap();
    assert_eq!(
        session.on_frame(data(0)),
        Err(Violation::FrameOrder { expected: 1, found: 0 })
    );
    assert_eq!(
        session.on_frame(end(2)),
        Err(Violation::FrameCount { counted: 2, came: 1 })
    );
    assert_eq!(
        asked().on_frame(end(1)),
        Err(Violation::FrameCount { counted: 1, came: 0 })
    );
}

#[test]
fn what_has_no_place_is_refused_by_name() {
    let idle = "no request runs";
    let (waiting, streaming) = ("the engine has not begun", "the answer comes");
    let (ended, settling) = ("usage is due", "the receipt is due");
    type Case = (Vec<WorkerFrame>, &'static str, Vec<(&'static str, WorkerFrame)>);
    let cases: [Case; 5] = [
        (
            vec![end(0), usage(), receipt()],
            idle,
            vec![
                ("head", head()),
                ("data", data(0)),
                ("end", end(0)),
                ("usage", usage()),
                ("beat", beat()),
            ],
        ),
        (vec![], waiting, vec![("data", data(0)), ("usage", usage())]),
        (vec![head()], streaming, vec![("head", head()), ("usage", usage())]),
        (
            vec![head(), end(0)],
            ended,
            vec![
                ("head", head()),
                ("data", data(0)),
                ("end", end(0)),
                ("fail", fail(true)),
            ],
        ),
        (
            vec![head(), end(0), usage()],
            settling,
            vec![
                ("head", head()),
                ("data", data(0)),
                ("end", end(0)),
                ("usage", usage()),
                ("fail", fail(false)),
            ],
        ),
    ];
    for (said, state, refused) in cases {
        for (frame, wrong) in refused {
            let mut session = asked();
            hear(&mut session, said.clone()).unwrap();
            assert_eq!(session.on_frame(wrong), Err(Violation::OutOfPlace { frame, state }));
        }
    }
}

#[test]
fn books_are_compared_while_a_request_runs() {
    let mut session = asked();
    for said in [head(), data(0), end(1)] {
        assert!(matches!(session.on_frame(book().into()), Ok(ToBuyer::Reconcile(_))));
        assert!(matches!(session.on_frame(receipt()), Ok(ToBuyer::Missing(_))));
        session.on_frame(said).unwrap();
    }
    session.on_frame(usage()).unwrap();
    assert!(matches!(session.on_frame(receipt()), Ok(ToBuyer::Receipt(_))));
    assert!(matches!(session.on_frame(receipt()), Ok(ToBuyer::Missing(_))));
}

#[test]
fn a_resumed_answer_goes_on_where_it_stopped() {
    let mut session = BuyerSession::default();
    session.resumed(3);
    assert_eq!(
        session.on_frame(data(2)),
        Err(Violation::FrameOrder { expected: 3, found: 2 })
    );
    hear(&mut session, [data(3), end(4), usage(), receipt()]).unwrap();
    let mut session = BuyerSession::default();
    session.resumed(0);
    hear(&mut session, [head(), data(0), end(1), usage(), receipt()]).unwrap();
    session.resumed(u64::MAX);
    session.on_frame(data(u64::MAX)).unwrap();
}

/// An honest buyer: it keeps to the rules of `specs/stream.md` and otherwise does what the dice say.
#[derive(Default)]
struct Buyer {
    session: BuyerSession,
    started: bool,
    next_id: u8,
    upload: Option<(u8, u64)>,
    current: Option<u8>,
    out: VecDeque<BuyerFrame>,
}

/// An honest worker.
#[derive(Default)]
struct Worker {
    session: WorkerSession,
    job: Option<Job>,
    out: VecDeque<WorkerFrame>,
}

#[derive(Clone, Copy)]
struct Job {
    head: bool,
    next: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Answering,
    Ended,
}

impl Buyer {
    fn act(&mut self, dice: u8) {
        match dice % 10 {
            0 => self.out.push_back(book().into()),
            1 => self.out.push_back(BuyerFrame::Countersign(enclosed())),
            2 => self.out.push_back(voucher()),
            _ if !self.started => {
                self.started = true;
                self.out.push_back(start());
            }
            3 => self.out.push_back(cancel(self.current.unwrap_or(255))),
            4 if self.upload.is_some() => {
                let taken_back = self.upload.take().unwrap_or_default().0;
                self.out.push_back(cancel(taken_back));
            }
            5..=7 if self.upload.is_some() => self.upload_part(u64::from(dice >> 6)),
            8 if self.is_free() => {
                let next = u64::from(dice >> 6);
                self.session.resumed(next);
                let n = self.fresh();
                self.current = Some(n);
                self.out.push_back(resume(n, next));
            }
            _ if self.is_free() => {
                let (n, length) = (self.fresh(), u64::from(dice >> 5));
                self.out.push_back(request(n, length));
                if length == 0 {
                    self.asked(n);
                } else {
                    self.upload = Some((n, length));
                }
            }
            _ => {}
        }
    }

    fn is_free(&self) -> bool {
        self.upload.is_none() && self.session.is_idle()
    }

    fn fresh(&mut self) -> u8 {
        self.next_id = (self.next_id + 1) % 200;
        self.next_id
    }

    fn asked(&mut self, n: u8) {
        self.current = Some(n);
        self.session.requested();
    }

    fn upload_part(&mut self, part: u64) {
        let Some((n, left)) = self.upload.take() else { return };
        let part = part.min(left);
        self.out.push_back(body(&vec![0; usize::try_from(part).unwrap()]));
        if left == part {
            self.asked(n);
        } else {
            self.upload = Some((n, left - part));
        }
    }
}

impl Worker {
    fn act(&mut self, dice: u8) {
        if dice.is_multiple_of(8) {
            // The answer to a Reconcile: what is missing, then the own book.
            self.out.extend([receipt(), book().into()]);
            return;
        }
        let Some(mut job) = self.job else { return };
        match (dice % 8, job.stage) {
            (1, _) => self.out.push_back(beat()),
            (2, Stage::Answering) => {
                let delivered = job.next > 0;
                self.out.push_back(fail(delivered));
                if !delivered {
                    return self.done();
                }
                job.stage = Stage::Ended;
            }
            (3, Stage::Answering) => {
                self.out.push_back(end(job.next));
                job.stage = Stage::Ended;
            }
            (_, Stage::Answering) if !job.head => {
                self.out.push_back(head());
                job.head = true;
            }
            (_, Stage::Answering) => {
                self.out.push_back(data(job.next));
                job.next += 1;
            }
            (_, Stage::Ended) => {
                self.out.extend([usage(), receipt()]);
                return self.done();
            }
        }
        self.job = Some(job);
    }

    fn done(&mut self) {
        self.job = None;
        self.session.finished();
    }

    fn hear(&mut self, frame: BuyerFrame) -> Result<(), Violation> {
        match self.session.on_frame(frame)? {
            ToWorker::Run(..) => {
                self.job = Some(Job {
                    head: false,
                    next: 0,
                    stage: Stage::Answering,
                })
            }
            ToWorker::Resume(resume) => {
                let (head, next) = (resume.next > 0, resume.next);
                self.job = Some(Job {
                    head,
                    next,
                    stage: Stage::Answering,
                });
            }
            ToWorker::Cancel(_) => {
                if let Some(job) = self.job.as_mut().filter(|job| job.stage == Stage::Answering) {
                    job.stage = Stage::Ended;
                    self.out.push_back(end(job.next));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn honest_ends_never_refuse_each_other(turns in prop::collection::vec((0_u8..4, any::<u8>()), 1..200)) {
        let (mut buyer, mut worker) = (Buyer::default(), Worker::default());
        let mut settled = 0;
        for (turn, dice) in turns {
            match turn {
                0 => buyer.act(dice),
                1 => worker.act(dice),
                2 => {
                    if let Some(frame) = buyer.out.pop_front() {
                        prop_assert_eq!(worker.hear(frame), Ok(()));
                    }
                }
                _ => {
                    if let Some(frame) = worker.out.pop_front() {
                        let heard = buyer.session.on_frame(frame);
                        prop_assert!(heard.is_ok(), "{:?}", heard);
                        settled += usize::from(matches!(heard, Ok(ToBuyer::Receipt(_))));
                    }
                }
            }
        }
        // What is under way comes to its end: nobody waits for a frame that the other does not owe.
        for _ in 0..4 {
            while let Some(frame) = buyer.out.pop_front() {
                prop_assert_eq!(worker.hear(frame), Ok(()));
            }
            worker.act(3);
            worker.act(4);
            while let Some(frame) = worker.out.pop_front() {
                let heard = buyer.session.on_frame(frame);
                prop_assert!(heard.is_ok(), "{:?}", heard);
                settled += usize::from(matches!(heard, Ok(ToBuyer::Receipt(_))));
            }
        }
        prop_assert!(buyer.session.is_idle(), "settled {} and then stuck", settled);
    }

    #[test]
    fn any_sequence_of_frames_is_survived(dice in prop::collection::vec(any::<u8>(), 0..60)) {
        let (mut worker, mut buyer) = (WorkerSession::default(), BuyerSession::default());
        for die in dice {
            let n = die >> 5;
            let to_worker = match die % 11 {
                0 => start(),
                1 => request(n, u64::from(n)),
                2 => body(&vec![0; usize::from(n)]),
                3 => resume(n, u64::MAX - u64::from(n)),
                4 => book().into(),
                5 => voucher(),
                6 => BuyerFrame::Countersign(enclosed()),
                7 => cancel(n),
                8 => request(n, u64::MAX),
                9 => { worker.finished(); continue }
                _ => { buyer.resumed(u64::MAX - u64::from(n)); continue }
            };
            let _ = worker.on_frame(to_worker);
            let to_buyer = match die % 9 {
                0 => head(),
                1 => data(u64::from(n)),
                2 => data(u64::MAX - u64::from(n)),
                3 => end(u64::from(n)),
                4 => usage(),
                5 => receipt(),
                6 => beat(),
                7 => fail(n % 2 == 0),
                _ => { buyer.requested(); continue }
            };
            let _ = buyer.on_frame(to_buyer);
        }
    }
}
