//! What the engine answers: data, a refusal in the envelope, or a fault that whoever drives it must act out.

use std::time::Duration;

/// What to do with a request: wait, then answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Plan<T> {
    /// How long after its arrival the request is answered.
    pub answer_after: Duration,
    /// With what.
    pub answer: Answer<T>,
}

impl<T> Plan<T> {
    pub(super) fn at_once(answer: Answer<T>) -> Self {
        Self { answer_after: Duration::ZERO, answer }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// 200, a SUCCESS envelope with this data.
    Data(T),
    /// A FAIL envelope.
    Refused(Refusal),
    /// Misbehaviour.
    Fault(Fault),
}

/// A FAIL envelope: the documented gateway's own errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The HTTP reason phrase, as this gateway sends it.
    pub error_code: &'static str,
    /// The Korean sentence.
    pub message: String,
}

impl Refusal {
    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { status: 400, error_code: "Bad Request", message: message.into() }
    }

    /// 500: what the gateway answers when a call is wrong in a way that it did not think of.
    pub fn unhandled() -> Self {
        Self {
            status: 500,
            error_code: "Internal Server Error",
            message: "일시적인 오류가 발생했습니다.".to_owned(),
        }
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: 404, error_code: "Not Found", message: message.into() }
    }
}

/// The ways in which an answer can be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Never answered.
    Hang,
    /// Connection reset.
    Reset,
    /// Connection closed without an answer.
    Close,
    /// Head and half of the body, then closed.
    CutBody,
    /// 429.
    Error429,
    /// 500.
    Error500,
    /// 502.
    Error502,
    /// 503.
    Error503,
    /// 504.
    Error504,
    /// 307 to the payments path.
    Redirect,
    /// 200 with something that is not JSON.
    Garbage,
    /// 200 with an empty body.
    Empty,
    /// 200, SUCCESS, and no data.
    DataNull,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Hang,
        Self::Reset,
        Self::Close,
        Self::CutBody,
        Self::Error429,
        Self::Error500,
        Self::Error502,
        Self::Error503,
        Self::Error504,
        Self::Redirect,
        Self::Garbage,
        Self::Empty,
        Self::DataNull,
    ];

    /// The name it has as a knob, in the counts and in scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::CutBody => "cut_body",
            Self::Error429 => "error_429",
            Self::Error500 => "error_500",
            Self::Error502 => "error_502",
            Self::Error503 => "error_503",
            Self::Error504 => "error_504",
            Self::Redirect => "redirect",
            Self::Garbage => "garbage",
            Self::Empty => "empty",
            Self::DataNull => "data_null",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// What becomes of one valid payment request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFate {
    /// Created and accepted.
    Accept,
    /// Answered badly; nothing is created.
    Fail(Fault),
    /// Created, and answered badly.
    CreateThen(Fault),
    /// Never answered, created much later.
    Backlog,
}

impl RequestFate {
    /// The name it has in counts and scripts: `accept`, `error_500`, `create_then_close`, `backlog`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Accept => "accept".to_owned(),
            Self::Fail(fault) => fault.name().to_owned(),
            Self::CreateThen(fault) => format!("create_then_{}", fault.name()),
            Self::Backlog => "backlog".to_owned(),
        }
    }

    /// The fate of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "accept" => Some(Self::Accept),
            "backlog" => Some(Self::Backlog),
            _ => match name.strip_prefix("create_then_") {
                Some(fault) => Fault::named(fault).map(Self::CreateThen),
                None => Fault::named(name).map(Self::Fail),
            },
        }
    }
}

/// What becomes of one look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupFate {
    /// Answered truthfully.
    Serve,
    /// Answered badly.
    Fail(Fault),
    /// Answered 404 whatever there is.
    NotFound,
    /// Answered with the state before the decision.
    Stale,
}

impl LookupFate {
    /// The name it has in counts and scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Fail(fault) => fault.name(),
            Self::NotFound => "not_found",
            Self::Stale => "stale",
        }
    }

    /// The fate of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "serve" => Some(Self::Serve),
            "not_found" => Some(Self::NotFound),
            "stale" => Some(Self::Stale),
            _ => Fault::named(name).map(Self::Fail),
        }
    }
}
