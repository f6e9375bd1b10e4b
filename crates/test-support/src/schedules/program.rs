//! A schedule: what several programs do to few rows, step by step, one step at a time.

use std::fmt;

/// One of several programs that use the database at once.
pub type Actor = usize;

/// Rows by their place: the rows of the setup first, then those that the schedule adds. A place beyond the last one is
/// counted round.
pub type Place = usize;

/// An order that is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The buyer.
    pub buyer: Place,
    /// Products and pieces.
    pub lines: Vec<(Place, i64)>,
    /// Points to spend.
    pub points: i64,
    /// With the coupon.
    pub coupon: bool,
    /// With this Idempotency-Key.
    pub key: Option<usize>,
}

/// A payment that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub payment: Place,
    /// Its goods are locked, too.
    pub goods: bool,
    /// The owners of these gateway keys are asked for.
    pub keys: Vec<usize>,
}

/// What becomes of a payment. What its state does not take is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// PAID by this gateway key.
    Pay(usize),
    /// FAILED; what it took goes back, as far as it is locked.
    Fail,
    /// The gateway accepted it with this key.
    Accept(usize),
    /// It is to be watched, and looked at an hour later.
    Watch,
    /// It is parked.
    Park,
    /// It is woken, its claim ended.
    Wake,
    /// This key is to be looked up.
    Hint(usize),
    /// All hints were looked up.
    HintsDone,
    /// A charge by this key goes into the ledger.
    Charge(usize),
    /// The answer of this Idempotency-Key.
    Answer(usize),
}

/// What a callback says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// With the payment's token: this gateway key.
    Named(Place, usize),
    /// Without a token.
    Unproven(Place),
    /// With a token of nobody.
    Forged,
}

/// What is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// What has not ended and is due.
    Unsettled,
    /// What has ended and is watched.
    Watched,
    /// What was woken.
    Woken,
    /// This payment.
    One(Place),
}

/// A plain read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A payment with its history.
    Payment(Place),
    /// An order.
    Order(Place),
    /// A product.
    Product(Place),
    /// A buyer's points and coupons.
    Buyer(Place),
    /// An Idempotency-Key.
    Key(usize),
    /// A payment's ledger rows.
    Ledger(Place),
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A transaction for single changes.
    Begin,
    /// Load and lock.
    OpenPlacing(Vec<Order>),
    /// Decide what was opened, and store it.
    StoreOrders,
    /// Load and lock.
    OpenSettling(Vec<Need>),
    /// Store what becomes of payments that were opened.
    StoreChanges(Vec<(Place, Change)>),
    /// Lock a buyer's points.
    LockPoints(Place),
    /// Pay some into an account that was locked.
    ChargePoints(Place, i64),
    /// Count a product.
    SetStock(Place, i64),
    /// Issue the coupon to a buyer.
    IssueCoupon(Place),
    /// Store the answer of an Idempotency-Key.
    SaveAnswer(usize),
    /// End the transaction.
    Commit,
    /// Take it back.
    Rollback,
    /// Start payments, in a transaction of its own.
    Start(Vec<Place>),
    /// Write down callbacks, in a transaction of its own.
    Note(Vec<Note>),
    /// Claim, in a transaction of its own: what, and how many at most.
    Claim(Which, u32),
    /// Read.
    Read(Read),
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The steps. One of an actor that still waits for the step before is taken up when that has returned.
    pub steps: Vec<(Actor, Op)>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (actor, op)) in self.steps.iter().enumerate() {
            writeln!(f, "{number:>3}  {:width$}{}: {op}", "", name(*actor), width = actor * 4)?;
        }
        Ok(())
    }
}

/// What an actor is called.
pub fn name(actor: Actor) -> char {
    u8::try_from(actor).map_or('?', |number| char::from(b'A'.saturating_add(number)))
}

fn list<T>(items: &[T], each: impl Fn(&T) -> String) -> String {
    items.iter().map(each).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("begin"),
            Self::OpenPlacing(orders) => write!(f, "open_placing({})", list(orders, Order::to_string)),
            Self::StoreOrders => f.write_str("store_orders"),
            Self::OpenSettling(needs) => write!(f, "open_settling({})", list(needs, Need::to_string)),
            Self::StoreChanges(changes) => {
                write!(f, "store_changes({})", list(changes, |(at, change)| format!("p{at} {change:?}")))
            }
            Self::LockPoints(buyer) => write!(f, "lock_points(u{buyer})"),
            Self::ChargePoints(buyer, amount) => write!(f, "save_points(u{buyer} +{amount})"),
            Self::SetStock(product, pieces) => write!(f, "set_stock(g{product} = {pieces})"),
            Self::IssueCoupon(buyer) => write!(f, "insert_issued_coupon(u{buyer})"),
            Self::SaveAnswer(key) => write!(f, "save_idempotent_answer(\"key{key}\")"),
            Self::Commit => f.write_str("commit"),
            Self::Rollback => f.write_str("rollback"),
            Self::Start(payments) => {
                write!(f, "start_payments({})", list(payments, |at| format!("p{at}")))
            }
            Self::Note(notes) => write!(f, "note_callbacks({})", list(notes, |note| format!("{note:?}"))),
            Self::Claim(which, limit) => write!(f, "claim({which:?}, at most {limit})"),
            Self::Read(read) => write!(f, "read {read:?}"),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{} buys {}", self.buyer, list(&self.lines, |(at, pieces)| format!("{pieces} g{at}")))?;
        if self.points > 0 {
            write!(f, " for {} points", self.points)?;
        }
        if self.coupon {
            f.write_str(" with the coupon")?;
        }
        self.key.map_or(Ok(()), |key| write!(f, " under \"key{key}\""))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.payment)?;
        if self.goods {
            f.write_str(" with goods")?;
        }
        if self.keys.is_empty() {
            return Ok(());
        }
        write!(f, " asking for {}", list(&self.keys, |key| format!("K{key}")))
    }
}
