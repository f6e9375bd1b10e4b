//! The kinds of faults, each with the rows of the failure catalogue that it provokes.

use std::fmt;
use std::str::FromStr;

macro_rules! kinds {
    ($( $group:literal { $( $(#[doc = $doc:literal])+ $name:ident $rows:literal $rate:literal; )+ } )+) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($( $(#[doc = $doc])+ $name, )+)+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$($(Kind::$name),+),+];

            /// Its name on the command line and in the table.
            pub const fn name(self) -> &'static str {
                match self { $($( Kind::$name => stringify!($name), )+)+ }
            }

            /// What it befalls.
            pub const fn group(self) -> &'static str {
                match self { $($( Kind::$name => $group, )+)+ }
            }

            /// Rows of the failure catalogue.
            pub const fn rows(self) -> &'static str {
                match self { $($( Kind::$name => $rows, )+)+ }
            }

            /// How often it strikes where it can, of 1000, in a run of middling intensity.
            pub const fn rate(self) -> u64 {
                match self { $($( Kind::$name => $rate, )+)+ }
            }
        }
    };
}

kinds! {
    "database" {
        /// A statement takes up to 3 s.
        DbSlow "F10 F12" 5;
        /// A statement finds the database out of reach.
        DbUnavailable "F12 F41 F42" 6;
        /// A statement took effect, but its answer is lost.
        DbAnswerLost "F12" 4;
        /// A serialization failure.
        DbConflict "F09" 5;
        /// COMMIT is refused.
        CommitRefused "F41" 8;
        /// COMMIT's answer is lost; it was stored.
        CommitUnknownStored "F08 F79" 12;
        /// COMMIT's answer is lost; it was not stored.
        CommitUnknownLost "F08 F79" 8;
        /// The database is away for seconds to minutes.
        DbOutage "F42 F79" 0;
        /// A program's sessions are of no use for seconds to minutes: a failover made them read-only, a migration took
        /// their plans. Afterwards it must have new ones.
        SessionsSpoilt "F79" 0;
        /// The database's clock jumps back by up to ten minutes. It is the only one that ages are told by: programs have none.
        ClockBack "F73 F74" 0;
    }
    "process" {
        /// An app-server dies at a step.
        CrashApp "F07 F25 F26" 4;
        /// A reconciler dies at a step.
        CrashReconciler "F70" 6;
        /// An app-server stands still for up to two minutes (SIGSTOP).
        FreezeApp "F27 F73" 0;
        /// A reconciler stands still until its leases are over.
        FreezeReconciler "F68" 0;
        /// An app-server is stopped, with a drain of 5 s.
        Drain "F06" 0;
    }
    "batch" {
        /// The task that leads a batch dies; its program lives on, and so do the batch's members.
        LaneDies "F11 F70" 8;
        /// A member of a batch can't be stored, again and again.
        BadMember "F71" 30;
    }
    "client" {
        /// Hangs up at any moment.
        Disconnect "F05" 150;
        /// Sends the same request with the same key again.
        RepeatKey "F01" 150;
        /// Sends it twice at once.
        RepeatAtOnce "F02" 100;
        /// Reuses the key for something else.
        ReuseKey "F03" 60;
        /// Sends the same order again without a key.
        RepeatWithoutKey "F04" 60;
        /// Has the payment looked at, whether it has ended or not.
        Sync "F54" 300;
    }
    "adversary" {
        /// A callback without a token.
        ForgedWithoutToken "F51" 0;
        /// A callback with a wrong token.
        ForgedToken "F51" 0;
        /// A payment's own token with another payment's key.
        ForeignKey "F50" 0;
        /// A payment's own token with a key that nobody has.
        UnknownKey "F50" 0;
        /// A hundred callbacks at once.
        Flood "F46 F53" 0;
    }
    "request" {
        /// 500, nothing created, more often than usual.
        Http500 "F28" 250;
        /// 500 after the transaction was created.
        Create500 "F29 F30" 60;
        /// 503, nothing created.
        Http503 "F28" 40;
        /// 503 after the transaction was created.
        Create503 "F29" 40;
        /// 429, with Retry-After or without.
        Http429 "F31" 40;
        /// 502 or 504, created or not.
        HttpBadGateway "F32" 40;
        /// An answer that can't be read, created or not.
        Garbage "F32" 40;
        /// 400: a business refusal.
        Http400 "F33" 40;
        /// 401: we are configured wrongly.
        Http401 "F34" 15;
        /// The connection is refused.
        ConnectRefused "F35" 50;
        /// No connection in time.
        ConnectTimeout "F35" 40;
        /// The connection is reset; the request was lost.
        ResetLost "F37" 40;
        /// The connection is reset after the transaction was created.
        ResetCreated "F36" 40;
        /// No answer; the request was lost.
        HangLost "F37" 40;
        /// No answer, but the transaction is created.
        HangCreated "F36" 40;
        /// No answer; the transaction is created half a minute to two minutes later.
        Backlog "F38 F59" 30;
        /// Answers take 0.6 to 1.4 s.
        SlowAnswer "F36" 60;
        /// The answer says SUCCESS or FAILED already.
        DirectStatus "F44 F45" 60;
        /// The gateway gives a key that an earlier transaction has, and forgets that one.
        KeyReuse "F43 F60 F61" 25;
        /// The gateway charges another amount.
        AmountDelta "F49" 30;
        /// Of many transactions of the order one charges, late in the list.
        ManyTransactions "F63 F64" 10;
        /// Another shop at the same gateway, as the same merchant, has an order with the same number and amount, and it is
        /// charged.
        OtherShop "F50" 60;
        /// The gateway refuses connections, or hangs, for seconds to minutes.
        GatewayOutage "F35 F39 F40 F58" 0;
    }
    "result" {
        /// Results take up to 25 minutes.
        ResultDelay "F47 F64 F65" 100;
        /// A transaction is never decided.
        StuckPending "F66" 30;
        /// FAILED becomes SUCCESS later.
        FlipToSuccess "F76 F48" 40;
        /// SUCCESS becomes FAILED later.
        FlipToFailed "F48 F75" 30;
        /// The gateway restarts: what is undecided stays so.
        GatewayRestart "F66" 0;
        /// The gateway forgets every transaction.
        GatewayWipe "F60 F62" 0;
    }
    "callback" {
        /// Never sent.
        CallbackLost "F47" 300;
        /// Sent two to five times.
        CallbackTwice "F46 F52" 150;
        /// Sent up to ten minutes late, so that callbacks overtake each other.
        CallbackLate "F48 F52" 100;
        /// Sent before the answer to the request, or before the result.
        CallbackEarly "F45" 150;
    }
    "look-up" {
        /// 5xx, or an unreadable answer.
        LookupError "F57 F58" 60;
        /// No answer.
        LookupHang "F57 F58" 40;
        /// An old state.
        LookupStale "F75" 40;
        /// 404 although it is there.
        LookupFalse404 "F59" 25;
        /// Listed, but its details are 404.
        LookupTorn "F71" 25;
        /// A status that nobody knows, for minutes or for ever, for one transaction.
        LookupOdd "F71" 40;
        /// For minutes every look-up is 404 (a wrong merchant id).
        WrongAccount "F62" 0;
        /// Look-ups are out of order for minutes.
        LookupOutage "F58" 0;
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = |kind: &&Kind| kind.name().eq_ignore_ascii_case(text);
        Self::ALL.iter().find(wanted).copied().ok_or_else(|| format!("no kind of fault is called {text:?}"))
    }
}
