//! Frames of the direct stream. Each is a CBOR array whose first member is the frame's number; on the wire a
//! big-endian u32 with its length stands before it.

use crate::codec::{self, Blob, List, Malformed, Text, Wire, Writer};
use crate::ids::{Digest, LeaseId, RequestId};
use crate::names::{BODY_BYTES, GOSSIP_BYTES, PART_BYTES};

/// An envelope inside a frame.
pub type EnvelopeBytes = Blob<GOSSIP_BYTES>;
/// Most token ids in one frame.
pub const TOKENS: usize = 65_536;
/// Most open requests named in one Reconcile.
pub const OPEN_REQUESTS: usize = 1_024;

wire_enum! {
    /// What a request is for.
    pub enum Endpoint {
        /// `/v1/chat/completions`
        ChatCompletions = 0 => "chat.completions",
        /// `/v1/completions`
        Completions = 1 => "completions",
        /// `/v1/embeddings`
        Embeddings = 2 => "embeddings",
    }
}

wire_enum! {
    /// Why a worker gives up on a request.
    pub enum FailCode {
        /// Every slot is taken. Costs nothing.
        Busy = 1 => "busy",
        /// The accept is not one of this worker's live bids, or is presented by another peer.
        Refused = 2 => "refused",
        /// The lease is over, used up, disputed or suspended.
        LeaseEnded = 3 => "lease-ended",
        /// The engine failed or cannot be reached.
        Engine = 4 => "engine",
        /// The engine, or this node for it, refuses the request itself; another provider would too.
        Request = 5 => "request",
        /// A deadline passed.
        Timeout = 6 => "timeout",
        /// The buyer broke the rules of the stream.
        Protocol = 7 => "protocol",
        /// The worker is stopping.
        Stopping = 8 => "stopping",
        /// A frame that Resume asks for is no longer there.
        Gone = 9 => "gone",
        /// The buyer owes countersignatures.
        Exposure = 10 => "exposure",
    }
}

wire_struct! {
    /// Opens a substream under a lease.
    pub struct Start {
        /// The accept's envelope.
        pub accept: EnvelopeBytes,
        /// The bid's envelope.
        pub bid: EnvelopeBytes,
        /// The offer's envelope.
        pub offer: EnvelopeBytes,
    }
}

wire_struct! {
    /// What an answer goes on from.
    pub struct Continuation {
        /// The assistant's text so far; empty where token ids are given.
        pub text: Blob<PART_BYTES>,
        /// The token ids so far.
        pub tokens: List<u32, TOKENS>,
    }
}

wire_struct! {
    /// Begins one request.
    pub struct Request {
        /// Its id, never used before.
        pub request: RequestId,
        /// What it is for.
        pub endpoint: Endpoint,
        /// Salt of the commitment.
        pub salt: [u8; 32],
        /// Bytes of the body, which follow in Body frames.
        pub length: u64,
        /// What to go on from, in a failover.
        pub continuation: Option<Continuation>,
    }
}

wire_struct! {
    /// A part of the body.
    pub struct Body {
        /// The bytes.
        pub bytes: Blob<PART_BYTES>,
    }
}

wire_struct! {
    /// Goes on with a request on another substream.
    #[derive(Copy)]
    pub struct Resume {
        /// The request.
        pub request: RequestId,
        /// The first Data frame that the buyer lacks.
        pub next: u64,
    }
}

wire_struct! {
    /// A request that one side holds to be open.
    #[derive(Copy)]
    pub struct Open {
        /// The request.
        pub request: RequestId,
        /// The Data frame it expects next.
        pub next: u64,
        /// Commitment up to there.
        pub commitment: Digest,
    }
}

wire_struct! {
    /// How far one side's book of a lease goes. From the buyer `held` counts receipts, from the worker accepted
    /// countersignatures; the other side answers with the envelopes from there on.
    pub struct Reconcile {
        /// The lease.
        pub lease: LeaseId,
        /// Envelopes held, from the first one on.
        pub held: u32,
        /// Hash of the last receipt held; of the accept where there is none.
        pub hash: Digest,
        /// Requests without a receipt.
        pub open: List<Open, OPEN_REQUESTS>,
    }
}

wire_struct! {
    /// A payment voucher; reserved for the rails.
    pub struct Voucher {
        /// The lease.
        pub lease: LeaseId,
        /// The rail's own encoding.
        pub voucher: Blob<4096>,
    }
}

wire_struct! {
    /// An envelope on its own: a receipt or a countersignature.
    pub struct Enclosed {
        /// The envelope.
        pub envelope: EnvelopeBytes,
    }
}

wire_struct! {
    /// Stops a request.
    #[derive(Copy)]
    pub struct Cancel {
        /// The request.
        pub request: RequestId,
    }
}

wire_struct! {
    /// The engine has begun to answer.
    pub struct Head {
        /// HTTP status of the engine's answer.
        pub status: u16,
        /// Its content type.
        pub content_type: Text<128>,
    }
}

wire_struct! {
    /// Bytes of the answer, as the engine wrote them: whole SSE events, or parts of one JSON body.
    pub struct Data {
        /// 0 for the first frame of a request, then one more each.
        pub frame: u64,
        /// The bytes.
        pub bytes: Blob<PART_BYTES>,
        /// Token ids behind the bytes, where the engine hands them over.
        pub tokens: Option<List<u32, TOKENS>>,
    }
}

wire_struct! {
    /// What the request used.
    #[derive(Copy)]
    pub struct Usage {
        /// Input tokens.
        pub input_tokens: u32,
        /// Output tokens.
        pub output_tokens: u32,
    }
}

wire_struct! {
    /// Nothing more comes for a request: every Data frame was sent.
    #[derive(Copy)]
    pub struct End {
        /// How many Data frames there were.
        pub frames: u64,
    }
}

wire_struct! {
    /// The worker is alive and has nothing to say.
    #[derive(Copy)]
    pub struct Beat {
        /// The Data frame that comes next.
        pub next: u64,
    }
}

wire_struct! {
    /// The request failed. A Usage and a Receipt follow where `delivered` is true, and nothing where it is false.
    pub struct Fail {
        /// Why.
        pub code: FailCode,
        /// For people; never holds any of the prompt.
        pub message: Text<512>,
        /// HTTP status that says the same; the engine's own where it answered.
        pub status: u16,
        /// Whether another provider might do better.
        pub retryable: bool,
        /// Whether any Data frame was sent.
        pub delivered: bool,
    }
}

macro_rules! frames {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident($ty:ty) = $number:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant($ty)),+
        }

        impl Wire for $name {
            fn encode(&self, writer: &mut Writer) {
                writer.array(2);
                match self {
                    $(Self::$variant(frame) => {
                        writer.uint($number);
                        frame.encode(writer);
                    })+
                }
            }

            fn decode(reader: &mut codec::Reader<'_>) -> Result<Self, Malformed> {
                reader.array(2)?;
                match reader.uint(u64::MAX)? {
                    $($number => <$ty>::decode(reader).map(Self::$variant),)+
                    _ => Err(reader.refuse("unknown frame")),
                }
            }
        }

        $(impl From<$ty> for $name {
            fn from(frame: $ty) -> Self {
                Self::$variant(frame)
            }
        })+

        impl $name {
            /// Reads one frame, without its length prefix.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
                codec::prefix_free(bytes)
            }

            /// The frame's bytes, without a length prefix.
            #[must_use]
            pub fn to_bytes(&self) -> Vec<u8> {
                codec::to_vec(self)
            }
        }
    };
}

frames! {
    /// What a buyer says.
    pub enum BuyerFrame {
        /// Once per substream.
        Start(Start) = 1,
        /// Once per request.
        Request(Request) = 2,
        /// As often as the length needs.
        Body(Body) = 3,
        /// After Start, in place of a Request.
        Resume(Resume) = 4,
        /// First on a new connection for each unsettled lease.
        Reconcile(Reconcile) = 5,
        /// Reserved.
        Voucher(Voucher) = 6,
        /// After each Receipt.
        Countersign(Enclosed) = 7,
        /// At any time while a request runs.
        Cancel(Cancel) = 8,
    }
}

frames! {
    /// What a worker says.
    pub enum WorkerFrame {
        /// The engine has begun.
        Head(Head) = 17,
        /// Part of the answer.
        Data(Data) = 18,
        /// All of it was sent.
        End(End) = 19,
        /// What it used.
        Usage(Usage) = 20,
        /// The receipt.
        Receipt(Enclosed) = 21,
        /// Still here.
        Beat(Beat) = 22,
        /// Gave up.
        Fail(Fail) = 23,
        /// How far the worker's book goes.
        Reconcile(Reconcile) = 24,
    }
}

/// A Data frame's bytes in one copy of its payload; the same bytes as `WorkerFrame::Data(..).to_bytes()`.
#[must_use]
pub fn data(frame: u64, bytes: &[u8], tokens: Option<&[u32]>) -> Vec<u8> {
    let mut writer = Writer::with_capacity(bytes.len() + 32);
    writer.array(2);
    writer.uint(18);
    writer.array(3);
    writer.uint(frame);
    writer.bytes(bytes);
    match tokens.filter(|tokens| tokens.len() <= TOKENS) {
        None => writer.null(),
        Some(tokens) => {
            writer.array(tokens.len());
            tokens.iter().for_each(|token| writer.uint(u64::from(*token)));
        }
    }
    writer.into_bytes()
}

/// A body's length as a Request may claim it.
#[must_use]
pub fn body_fits(length: u64) -> bool {
    length <= BODY_BYTES
}
