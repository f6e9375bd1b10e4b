//! The gateway's transactions: the truth, which only the oracle may read directly.

use domain::settlement::TransactionStatus;
use domain::{GatewayKey, GatewayOrderRef, MerchantId, Money};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// One charge, or what may become one.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its name.
    pub key: GatewayKey,
    /// Who requested it; nobody else sees it.
    pub merchant: MerchantId,
    /// What its order is called.
    pub order_ref: GatewayOrderRef,
    /// The number of our order that it was requested for; 0: another shop's.
    pub order: i64,
    /// Why it fails, if it does.
    pub refusal: &'static str,
    /// What it charges.
    pub amount: Money,
    /// Where its callback goes: the token at the end of the address.
    pub token: String,
    /// When the gateway stored it.
    pub created: Instant,
    /// Its states, each from its moment on.
    pub states: Vec<(Instant, TransactionStatus)>,
    /// No look-up finds it any more: wiped, or its key was given to another.
    pub gone: bool,
    /// From the first moment to the second a look-up shows a status that nobody knows.
    pub odd: Option<(Instant, Instant)>,
}

impl Transaction {
    /// Its state at a moment; none before it was created.
    pub fn status_at(&self, at: Instant) -> Option<TransactionStatus> {
        self.states.iter().rev().find(|(since, _)| *since <= at).map(|(_, status)| *status)
    }

    /// What the gateway says of a state.
    pub fn reason(&self, status: TransactionStatus) -> Option<String> {
        let reason = match status {
            TransactionStatus::Pending => return None,
            TransactionStatus::Success => "정상 승인되었습니다.",
            TransactionStatus::Failed => self.refusal,
        };
        Some(reason.to_owned())
    }

    /// A look-up shows a status that nobody knows.
    pub fn is_odd_at(&self, at: Instant) -> bool {
        self.odd.is_some_and(|(from, until)| from <= at && at < until)
    }

    /// It was, or is, SUCCESS by then.
    pub fn approved_by(&self, at: Instant) -> bool {
        self.states.iter().any(|(since, status)| *since <= at && *status == TransactionStatus::Success)
    }
}

/// All transactions.
#[derive(Debug, Default)]
pub struct Gateway {
    all: Vec<Transaction>,
    /// By the key in small letters: the gateway's database compares them so.
    by_key: BTreeMap<String, usize>,
    /// Callbacks sent, by transaction and token.
    told: Vec<(GatewayKey, String)>,
    /// Connections are refused (or hang) until then.
    pub away_until: Option<(Instant, bool)>,
    /// Look-ups answer 404 until then.
    pub blind_until: Option<Instant>,
    /// Look-ups fail until then.
    pub look_ups_fail_until: Option<Instant>,
}

impl Gateway {
    /// Stores one; whoever had the key is forgotten.
    pub fn store(&mut self, transaction: Transaction) {
        let at = self.all.len();
        if let Some(before) = self.by_key.insert(folded(&transaction.key), at)
            && let Some(before) = self.all.get_mut(before)
        {
            before.gone = true;
        }
        self.all.push(transaction);
    }

    /// All that ever were, oldest first.
    pub fn all(&self) -> &[Transaction] {
        &self.all
    }

    /// What a look-up by key finds at a moment, whatever the case of the key's letters.
    pub fn by_key(&self, key: &GatewayKey, at: Instant) -> Option<&Transaction> {
        let found = self.all.get(*self.by_key.get(&folded(key))?)?;
        (!found.gone && found.created <= at).then_some(found)
    }

    /// What a look-up by order finds at a moment.
    pub fn by_order(&self, order_ref: &GatewayOrderRef, at: Instant) -> Vec<&Transaction> {
        let mine = |transaction: &&Transaction| {
            transaction.order_ref == *order_ref && !transaction.gone && transaction.created <= at
        };
        self.all.iter().filter(mine).collect()
    }

    /// A callback leaves.
    pub fn tell(&mut self, key: GatewayKey, token: String) {
        self.told.push((key, token));
    }

    /// Callbacks that left, oldest first.
    pub fn told(&self) -> &[(GatewayKey, String)] {
        &self.told
    }

    /// Whether some transaction has, or had, this key.
    pub fn is_given(&self, key: &GatewayKey) -> bool {
        self.by_key.contains_key(&folded(key))
    }

    /// A key that is given to somebody already.
    pub fn some_key(&self, nth: u64) -> Option<GatewayKey> {
        let count = u64::try_from(self.all.len()).ok().filter(|count| *count > 0)?;
        self.all.get(usize::try_from(nth % count).ok()?).map(|transaction| transaction.key.clone())
    }

    /// What is undecided stays so for ever.
    pub fn restart(&mut self, now: Instant) {
        for transaction in &mut self.all {
            transaction.states.retain(|(since, _)| *since <= now);
            // Not even stored yet: it never will be.
            transaction.gone |= transaction.states.is_empty();
        }
    }

    /// Everything is forgotten.
    pub fn wipe(&mut self, now: Instant) {
        self.restart(now);
        for transaction in &mut self.all {
            transaction.gone = true;
        }
    }

    /// Still to be decided at `now`, and will be.
    pub fn will_tell(&self, key: &GatewayKey, token: &str, now: Instant) -> bool {
        let mine = |transaction: &&Transaction| transaction.key == *key && transaction.token == token;
        let found = self.all.iter().rev().find(mine);
        found.is_some_and(|transaction| transaction.status_at(now).is_some())
    }
}

fn folded(key: &GatewayKey) -> String {
    key.as_str().to_lowercase()
}
