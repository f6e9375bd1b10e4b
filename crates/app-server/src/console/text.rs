//! The words of the pages, in both languages side by side: a word without its translation does not compile.

use bootstrap::settings::Locale;
use domain::PaymentStatus;
use domain::ports::Cause;
use domain::settlement::DiscrepancyKind;

macro_rules! texts {
    ($($name:ident: $ko:literal, $en:literal;)+) => {
        /// The words of one language.
        pub(super) struct Texts { $(pub(super) $name: &'static str,)+ }

        static KO: Texts = Texts { $($name: $ko,)+ };
        static EN: Texts = Texts { $($name: $en,)+ };
    };
}

texts! {
    // The frame.
    overview: "개요", "Overview";
    payments: "결제", "Payments";
    discrepancies: "불일치", "Discrepancies";
    circuits: "서킷", "Circuits";
    reconciler: "리컨실러", "Reconciler";
    skip: "본문으로 건너뛰기", "Skip to content";
    navigation: "메뉴", "Navigation";
    stale: "갱신이 멈췄습니다. 아래 내용은 오래되었을 수 있습니다.", "Updates have stopped. What you see may be out of date.";
    as_of: "기준 시각", "As of";
    operator: "담당자", "Operator";
    no_operator: "이름 남기기", "Say who you are";
    sign_in: "로그인", "Sign in";
    sign_out: "로그아웃", "Sign out";
    error: "오류", "Error";
    back_to_overview: "개요로 돌아가기", "Back to the overview";
    request_id: "요청 ID", "Request id";
    database_away_help: "PostgreSQL이 실행 중인지, 연결 수가 남아 있는지 확인하세요. 개요 화면은 데이터베이스 없이도 볼 수 있습니다.",
        "Check that PostgreSQL runs and has connections left. The overview works without the database.";
    internal_help: "요청 ID로 로그를 찾아보세요.", "Look the request id up in the log.";
    // Signing in.
    your_name: "이름 (감사 로그에 남습니다)", "Your name (it is kept in the audit log)";
    token: "운영 토큰 (ops.token)", "Operations token (ops.token)";
    wrong_token: "토큰이 올바르지 않습니다.", "The token is not right.";
    go_on: "계속", "Continue";
    name_hint: "이 서버에서만 접속할 수 있어 토큰은 필요 없습니다.", "This port serves its own machine only, so no token is needed.";
    // The overview.
    all_well: "이상 없음", "All is well";
    all_well_detail: "지금 조치할 일이 없습니다.", "Nothing needs you now.";
    needs_you: "조치가 필요합니다", "This needs you";
    orders_per_minute: "분당 주문", "Orders a minute";
    last_minute: "최근 1분", "last minute";
    success_share: "성공 비율 (최근 5분)", "Success share (last 5 min)";
    accepted: "접수", "Accepted";
    refused: "카드 거절", "Card refused";
    troubled: "장애", "Trouble";
    no_orders: "최근 1시간 동안 이 서버에 주문이 없었습니다.", "No orders on this server in the last hour.";
    unsettled: "미확정 결제", "Unsettled payments";
    none_unsettled: "미확정 결제가 없습니다.", "No payment is waiting for its end.";
    oldest: "가장 오래된 것", "Oldest";
    under_1m: "1분 미만", "under 1 min";
    under_5m: "1–5분", "1–5 min";
    under_30m: "5–30분", "5–30 min";
    over_30m: "30분 이상", "over 30 min";
    latency_charge: "PG 결제 요청 지연", "Gateway: payment requests";
    latency_look_up: "PG 조회 지연", "Gateway: look-ups";
    no_calls: "최근 30분 동안 호출이 없었습니다.", "No calls in the last 30 minutes.";
    last_5m: "최근 5분", "last 5 min";
    calls: "호출", "calls";
    slow_line: "느림 기준", "slow";
    open_discrepancies: "미처리 불일치", "Open discrepancies";
    no_discrepancies: "미처리 불일치가 없습니다.", "No open discrepancies.";
    watched: "감시 중인 결제", "Payments on the watch list";
    pools: "데이터베이스 연결", "Database connections";
    in_use: "사용 중", "in use";
    idle: "대기", "idle";
    waiting: "연결을 기다리는 요청", "waiting";
    no_pools: "아직 수집된 값이 없습니다.", "Nothing recorded yet.";
    database_unread: "데이터베이스를 읽을 수 없습니다.", "The database can't be read.";
    hour_ago: "1시간 전", "1 h ago";
    half_hour_ago: "30분 전", "30 min ago";
    now: "지금", "now";
    this_process: "이 서버 프로세스의 값입니다. 다른 서버의 값은 그 서버의 콘솔에 있습니다.",
        "Numbers of this server process. Other servers have a console of their own.";
    show_all: "모두 보기", "Show all";
    // Payments.
    status: "상태", "Status";
    any: "전체", "Any";
    age: "경과", "Age";
    any_age: "전체 기간", "Any age";
    older_1m: "1분 넘은 것", "Over 1 min";
    older_5m: "5분 넘은 것", "Over 5 min";
    older_30m: "30분 넘은 것", "Over 30 min";
    older_1d: "하루 넘은 것", "Over a day";
    filter: "적용", "Filter";
    find_payment: "결제·주문 번호로 찾기", "Find by payment or order number";
    find: "찾기", "Find";
    payment: "결제", "Payment";
    order: "주문", "Order";
    buyer: "구매자", "Buyer";
    amount: "카드 금액", "On the card";
    placed: "주문 시각", "Placed";
    gateway_key: "PG 거래 키", "Gateway key";
    no_payments: "조건에 맞는 결제가 없습니다.", "No payment matches.";
    no_payments_yet: "아직 결제가 없습니다. 첫 주문이 들어오면 여기에 보입니다.", "There are no payments yet. They appear here with the first order.";
    next_page: "다음", "Next page";
    first_page: "처음으로", "First page";
    no_key: "없음", "none";
    // One payment.
    what_next: "다음에 일어날 일", "What happens next";
    sync_now: "지금 PG에 확인", "Ask the gateway now";
    sync_help: "PG에 이 결제를 물어보고, 답에 따라 확정합니다. 카드를 다시 청구하지 않습니다.",
        "Asks the gateway about this payment and settles it by the answer. The card is never charged again.";
    timeline: "경과", "Timeline";
    evidence: "PG와 대조할 근거", "Gateway evidence";
    merchant: "가맹점 ID", "Merchant id";
    gateway_order: "PG 주문 번호", "Order id at the gateway";
    send_deadline: "요청 전송 기한", "Send deadline";
    card: "카드", "Card";
    masked: "카드 번호는 마스킹된 값만 저장됩니다.", "Only the masked number is stored.";
    no_card: "카드 금액 없음", "nothing on a card";
    goods: "주문 내용", "What was ordered";
    total: "합계", "Total";
    used_point: "사용 포인트", "Points used";
    coupon_discount: "쿠폰 할인", "Coupon discount";
    failure: "실패 사유", "Failure";
    ledger_rows: "이 결제의 불일치", "Its discrepancies";
    no_ledger_rows: "이 결제에 기록된 불일치가 없습니다.", "None is recorded for this payment.";
    no_change: "상태는 그대로, 거래 키만 바뀜", "same status, key changed";
    // Discrepancies.
    open: "미처리", "Open";
    resolved: "처리됨", "Resolved";
    found: "발견", "Found";
    what_it_means: "무슨 뜻인가", "What it means";
    what_to_do: "무엇을 할 것인가", "What to do";
    seen: "확인된 내용", "What was seen";
    resolve: "처리 완료로 표시", "Mark as resolved";
    resolution: "조치", "What was done";
    choose: "선택하세요", "Choose";
    gateway_amount: "PG 금액", "At the gateway";
    note: "메모", "Note";
    note_hint: "PG와 확인한 내용, 문의 번호 등. 카드 번호는 적지 마세요.", "What the gateway said, a case number. No card numbers.";
    none_open: "미처리 불일치가 없습니다. PG의 모든 청구가 주문과 맞습니다.",
        "None is open: every charge that was looked at matches a paid order.";
    none_resolved: "처리된 불일치가 없습니다.", "None was resolved yet.";
    none_at_all: "기록된 불일치가 없습니다.", "None is recorded.";
    resolved_by: "처리한 사람", "Resolved by";
    never_deleted: "행은 지워지지 않습니다. 처리 기록은 감사 로그에도 남습니다.", "Rows are never deleted; resolving is also written to the audit log.";
    done_refunded: "PG에서 환불함", "Refunded at the gateway";
    done_cancelled: "PG에서 승인 취소함", "Cancelled at the gateway";
    done_no_charge: "실제 청구 없음을 확인함", "Confirmed that nothing was charged";
    done_accepted: "손실로 처리함", "Accepted as a loss";
    done_other: "기타 (메모 참조)", "Other (see the note)";
    // Circuits.
    circuit_window: "최근 호출 창", "Window of calls";
    failure_rate: "실패율", "Failure rate";
    slow_rate: "느린 호출", "Slow calls";
    not_permitted: "차단된 호출", "Calls not let through";
    opens_at: "차단 기준", "opens at";
    unknown_rate: "아직 모름", "not known yet";
    last_hour: "최근 1시간의 상태", "States of the last hour";
    failure_rate_hour: "최근 1시간의 실패율", "Failure rate of the last hour";
    failed: "실패", "Failed";
    good: "정상", "Good";
    free: "빈 자리", "Free";
    by_hand: "직접 조작", "By hand";
    by_hand_help: "이 서버 프로세스에만 적용되고, 재시작하면 처음 상태로 돌아갑니다.",
        "Applies to this server process only, until it restarts.";
    force_open: "강제로 차단", "Force open";
    force_open_help: "PG를 부르지 않습니다. 카드 주문은 모두 바로 거절됩니다.", "The gateway is not called. Every card order is refused at once.";
    force_open_query_help: "PG에 조회하지 않습니다. 미확정 결제가 확정되지 않고 쌓입니다.", "No look-ups are made. Unsettled payments pile up.";
    close: "닫기", "Close";
    close_help: "PG를 다시 부르고, 창을 비운 채 처음부터 셉니다.", "The gateway is called again; counting starts with an empty window.";
    disable: "끄기", "Disable";
    disable_help: "모든 호출을 보내고 아무것도 세지 않습니다. PG가 느리면 주문이 기다립니다.", "Every call is made and nothing is counted. With a slow gateway orders wait.";
    reset: "초기화", "Reset";
    reset_help: "시작할 때의 상태로 되돌립니다.", "As after the program's start.";
    confirm: "실행", "Do it";
    // The reconciler.
    schedule: "일정", "Schedule";
    coming: "다음에 확인할 결제", "What is looked at next";
    due: "예정", "Due";
    nothing_coming: "확인할 결제가 없습니다.", "Nothing is waiting to be looked at.";
    lately: "리컨실러가 최근 확정한 것", "What the reconciler changed lately";
    nothing_lately: "최근 기록 1,000건 안에 리컨실러가 바꾼 결제가 없습니다.", "It changed nothing within the last 1,000 changes.";
    turns_elsewhere: "리컨실러의 실행 기록은 저장되지 않고 그 프로세스의 /metrics에만 있습니다. 여기에는 데이터베이스에서 보이는 것만 있습니다: 다음에 확인할 결제와 최근에 바뀐 결제.",
        "A turn leaves no record but the metrics of the reconciler's own process. What is shown here is what the database shows: what is due, and what was changed lately.";
    its_metrics: "리컨실러의 지표 (설정된 주소)", "The reconciler's metrics (address in the settings)";
    parked: "보류됨", "parked";
    under_way: "확인 중", "under way";
    overdue: "지연", "overdue";
    failures: "연속 실패", "Failures";
    on_watch: "감시 목록", "watch list";
    more_coming: "그 밖에 더 있습니다. 결제 화면에서 찾을 수 있습니다.", "There are more; find them among the payments.";
    reason: "사유", "Reason";
    when: "시각", "When";
    verdict_running: "밀린 확인이 없습니다.", "Nothing is overdue.";
}

impl Texts {
    /// Of this language.
    pub(super) const fn of(locale: Locale) -> &'static Self {
        match locale {
            Locale::Ko => &KO,
            Locale::En => &EN,
        }
    }
}

/// What a page says once after an action: a word in its address, so that nothing has to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    Paid,
    Failed,
    StillWaiting,
    NothingToAsk,
    TooSoon,
    NotAsked,
    NotExamined,
    Parked,
    Resolved,
    ResolvedBefore,
    CircuitSet,
}

impl Notice {
    const ALL: [Self; 11] = [
        Self::Paid,
        Self::Failed,
        Self::StillWaiting,
        Self::NothingToAsk,
        Self::TooSoon,
        Self::NotAsked,
        Self::NotExamined,
        Self::Parked,
        Self::Resolved,
        Self::ResolvedBefore,
        Self::CircuitSet,
    ];

    /// As it stands in the address.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::StillWaiting => "waiting",
            Self::NothingToAsk => "ended",
            Self::TooSoon => "too-soon",
            Self::NotAsked => "not-asked",
            Self::NotExamined => "not-examined",
            Self::Parked => "parked",
            Self::Resolved => "resolved",
            Self::ResolvedBefore => "resolved-before",
            Self::CircuitSet => "circuit-set",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|notice| notice.as_str() == text)
    }

    /// What was wanted has happened.
    pub(super) const fn is_good(self) -> bool {
        matches!(self, Self::Paid | Self::Failed | Self::NothingToAsk | Self::Resolved | Self::CircuitSet)
    }

    pub(super) const fn text(self, locale: Locale) -> &'static str {
        let (ko, en) = match self {
            Self::Paid => (
                "PG의 승인을 확인해 결제 완료로 확정했습니다.",
                "The gateway has approved it: the payment is PAID.",
            ),
            Self::Failed => (
                "PG의 답에 따라 결제 실패로 확정하고 재고·쿠폰·포인트를 돌려놓았습니다.",
                "By the gateway's answer the payment is FAILED; stock, coupon and points are back.",
            ),
            Self::StillWaiting => (
                "PG에 확인했지만 아직 결정되지 않았습니다. 아래 예정대로 다시 확인합니다.",
                "The gateway was asked, and has not decided yet. It will be asked again as shown below.",
            ),
            Self::NothingToAsk => (
                "이미 확정된 결제라 확인할 것이 없습니다.",
                "The payment has ended: there is nothing to ask.",
            ),
            Self::TooSoon => (
                "방금 확인했거나 다른 작업이 확인 중입니다. 잠시 후 다시 눌러주세요.",
                "It was asked about just now, or somebody is at it. Try again in a moment.",
            ),
            Self::NotAsked => (
                "PG에 연결할 수 없거나 pg-query 서킷이 열려 있습니다. 아무것도 바뀌지 않았습니다.",
                "The gateway can't be asked, or the circuit pg-query is open. Nothing has changed.",
            ),
            Self::NotExamined => (
                "확인하지 못했습니다. 로그에 원인이 있고, 나중에 다시 확인합니다.",
                "It could not be examined; the log says why. It will be tried again.",
            ),
            Self::Parked => (
                "거듭 실패하여 보류되었습니다. 불일치 목록에 기록되었습니다.",
                "It failed again and again and is parked, with a row in the ledger.",
            ),
            Self::Resolved => ("처리 완료로 기록했습니다.", "It is marked as resolved."),
            Self::ResolvedBefore => (
                "이미 다른 사람이 처리했습니다. 아래 기록을 확인하세요.",
                "Somebody has resolved it before. See the record below.",
            ),
            Self::CircuitSet => ("서킷 상태를 바꾸었습니다.", "The circuit's state is set."),
        };
        match locale {
            Locale::Ko => ko,
            Locale::En => en,
        }
    }
}

/// What a payment's status means for its buyer.
pub(super) const fn status_text(status: PaymentStatus, locale: Locale) -> &'static str {
    let (ko, en) = match status {
        PaymentStatus::Pending => ("PG 요청 전", "not sent yet"),
        PaymentStatus::InProgress => ("PG 확인 중", "being confirmed"),
        PaymentStatus::Paid => ("결제 완료", "charged"),
        PaymentStatus::Failed => ("실패, 주문 취소", "failed, order cancelled"),
    };
    match locale {
        Locale::Ko => ko,
        Locale::En => en,
    }
}

/// What a circuit's state means for orders.
pub(super) fn circuit_text(state: &str, locale: Locale) -> &'static str {
    let (ko, en) = match state {
        "CLOSED" => ("정상: 호출이 나갑니다", "normal: calls are made"),
        "OPEN" => ("차단: 호출하지 않습니다", "cut off: no calls are made"),
        "HALF_OPEN" => ("시험 중: 몇 건만 보내 봅니다", "probing: a few calls are let through"),
        "FORCED_OPEN" => {
            ("직접 차단함: 풀기 전까지 호출하지 않습니다", "cut off by hand until changed by hand")
        }
        "DISABLED" => ("꺼짐: 모두 보내고 세지 않습니다", "disabled: every call is made, nothing counted"),
        "METRICS_ONLY" => ("기록만: 차단하지 않습니다", "recording only: never cuts off"),
        _ => ("알 수 없음", "unknown"),
    };
    match locale {
        Locale::Ko => ko,
        Locale::En => en,
    }
}

/// Who changed a payment.
pub(super) const fn cause_text(cause: Cause, locale: Locale) -> &'static str {
    let (ko, en) = match cause {
        Cause::Api => ("주문 처리", "the order itself"),
        Cause::Callback => ("PG 콜백", "the gateway's callback"),
        Cause::Reconciler => ("리컨실러", "the reconciler"),
        Cause::Operator => ("직접 확인", "a sync by hand"),
    };
    match locale {
        Locale::Ko => ko,
        Locale::En => en,
    }
}

/// What a kind of discrepancy means, and what a person should do about it.
pub(super) const fn kind_text(kind: DiscrepancyKind, locale: Locale) -> (&'static str, &'static str) {
    use DiscrepancyKind as Kind;
    let (ko, en) = match kind {
        Kind::DuplicateCharge => (
            (
                "이미 결제된 주문이 한 번 더 승인되었습니다. 구매자가 두 번 청구되었습니다.",
                "PG에서 이 거래 키의 승인을 취소하세요.",
            ),
            (
                "A paid order was approved once more: the buyer is charged twice.",
                "Cancel the transaction of this key at the gateway.",
            ),
        ),
        Kind::AmountMismatch => (
            (
                "PG가 주문과 다른 금액을 승인했습니다. 주문은 취소되었습니다.",
                "PG에서 이 거래를 취소하고, 금액이 왜 달랐는지 PG에 문의하세요.",
            ),
            (
                "The gateway approved another amount than ours; the order is cancelled.",
                "Cancel the transaction at the gateway, and ask why the amount differs.",
            ),
        ),
        Kind::OrderMismatch => (
            (
                "우리 주문의 거래 목록에 다른 주문의 거래가 있습니다.",
                "거래 키로 PG에 문의해 누구의 청구인지 확인하고, 주인이 없으면 취소하세요.",
            ),
            (
                "A transaction listed for our order says that it is another order's.",
                "Ask the gateway whose charge it is; if nobody's, have it cancelled.",
            ),
        ),
        Kind::PgLost => (
            (
                "PG가 자기가 준 거래 키를 모르거나 다른 주문에 씁니다.",
                "PG가 초기화되었거나 가맹점 ID가 바뀌었는지 확인하고, 청구 여부를 PG에 문의하세요.",
            ),
            (
                "The gateway does not know the key that it gave us, or uses it for another order.",
                "Check for a wiped gateway or a changed merchant id; ask whether the card was charged.",
            ),
        ),
        Kind::LateSuccess => (
            (
                "주문이 취소된 뒤에 PG가 승인했습니다. 구매자가 물건 없이 청구되었습니다.",
                "PG에서 승인을 취소해 구매자에게 돌려주세요. 재고는 이미 돌려놓았습니다.",
            ),
            (
                "Approved after the order was cancelled: the buyer is charged and gets nothing.",
                "Cancel the charge at the gateway, so that the buyer has his money back.",
            ),
        ),
        Kind::KeyReused => (
            (
                "PG가 같은 거래 키를 두 결제에 주었습니다.",
                "두 결제의 청구를 PG에 문의하고, 청구된 쪽을 취소하세요.",
            ),
            (
                "The gateway gave one key to two of our payments.",
                "Ask the gateway about both charges, and have the unmatched one cancelled.",
            ),
        ),
        Kind::Conflict => (
            (
                "결제 완료된 주문의 거래를 PG가 이제 실패라고 합니다.",
                "PG에 정산 여부를 확인하세요. 청구되지 않았다면 물건을 보내기 전에 구매자와 연락하세요.",
            ),
            (
                "The gateway now calls the transaction of a paid order FAILED.",
                "Check the settlement with the gateway; if nothing was charged, contact the buyer before shipping.",
            ),
        ),
        Kind::NeverSettled => (
            (
                "24시간 넘게 PG에서 결정되지 않은 거래입니다.",
                "PG에 거래 키로 문의해 끝을 확인하고, 승인되었다면 취소하세요.",
            ),
            (
                "A transaction that the gateway has not decided even after a day.",
                "Ask the gateway how it ends; if it was approved, have it cancelled.",
            ),
        ),
        Kind::Poison => (
            (
                "이 결제는 확인할 때마다 실패해 보류되었습니다.",
                "로그에서 원인을 찾고, 고친 뒤 결제 화면에서 직접 확인을 누르세요.",
            ),
            (
                "Examining this payment failed again and again; it is parked.",
                "Find the cause in the log, then press the sync button on the payment's page.",
            ),
        ),
    };
    match locale {
        Locale::Ko => ko,
        Locale::En => en,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read_back() {
        for notice in Notice::ALL {
            assert_eq!(Notice::parse(notice.as_str()), Some(notice));
            assert_ne!(notice.text(Locale::Ko), notice.text(Locale::En));
        }
        assert_eq!(Notice::parse("<script>"), None);
    }
}
