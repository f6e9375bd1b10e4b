### Everything that people read. The keys are those of en.ftl; a text stands on one line (docs/console.md, "Texts").

## API: the key is the `reason` of the answer. Korean texts that the domain also has must be the same.

# The request itself.
MALFORMED_JSON = 요청 본문이 올바른 JSON이 아닙니다.
BODY_UNREADABLE = 요청 본문을 끝까지 읽지 못했습니다.
MISSING_FIELD = 필수 항목이 없습니다: { $subject }
INVALID_FIELD = 항목의 값이 올바르지 않습니다: { $subject }
INVALID_PARAMETER = 요청 파라미터가 올바르지 않습니다: { $subject }
USER_ID_REQUIRED = X-USER-ID 헤더가 필요합니다.
INVALID_USER_ID = X-USER-ID 헤더는 양의 정수여야 합니다.
INVALID_IDEMPOTENCY_KEY = Idempotency-Key 헤더는 1자 이상 255자 이하의 ASCII 문자여야 합니다.

# What is ordered.
NO_ITEMS = 주문 항목은 1개 이상이어야 합니다.
TOO_MANY_ITEMS = 주문 항목은 100개 이하여야 합니다.
INVALID_QUANTITY = 수량은 1 이상 2147483647 이하여야 합니다.
OUT_OF_STOCK = 재고가 부족합니다.
INVALID_STOCK = 재고 수량이 허용 범위를 벗어났습니다.
TOTAL_NOT_POSITIVE = 주문 금액은 0보다 커야 합니다.
AMOUNT_OVERFLOW = 금액이 허용 범위를 벗어났습니다.

# How it is paid.
COUPON_ALREADY_USED = 이미 사용된 쿠폰입니다.
COUPON_NOT_OWNED = 보유하지 않은 쿠폰입니다.
COUPON_EXPIRED = 유효 기간이 지난 쿠폰입니다.
DISCOUNT_NOT_POSITIVE = 할인 금액은 양수여야 합니다.
RATE_OUT_OF_RANGE = 할인율은 1 이상 100 이하여야 합니다.
INSUFFICIENT_POINT = 포인트가 부족합니다.
CHARGE_NOT_POSITIVE = 충전 금액은 양수여야 합니다.
USED_POINT_NEGATIVE = 사용 포인트는 0 이상이어야 합니다.
PAID_AMOUNT_NEGATIVE = 카드 결제 금액은 0 이상이어야 합니다.
AMOUNT_MISMATCH = 결제 금액이 주문 금액과 일치하지 않습니다.
CARD_REQUIRED = 카드 결제에 필요한 카드 종류와 카드 번호가 없습니다.
INVALID_CARD_NUMBER = 카드 번호는 xxxx-xxxx-xxxx-xxxx 형식이어야 합니다.
INVALID_CARD_TYPE = 지원하지 않는 카드사입니다.

# Who asks.
TOKEN_REQUIRED = 인증 토큰이 필요합니다.
INVALID_TOKEN = 인증 토큰이 올바르지 않습니다.
USER_ID_NOT_TRUSTED = X-USER-ID 헤더는 앞단의 게이트웨이를 통해서만 받을 수 있습니다.
SELF_CHARGE_DISABLED = 포인트를 직접 충전할 수 없습니다.
LOOPBACK_ONLY = 운영 API는 이 서버 안에서만 사용할 수 있습니다.
CROSS_SITE = 다른 사이트에서 온 요청은 허용되지 않습니다.

# What is not there.
UNKNOWN_PATH = 존재하지 않는 경로입니다.
ORDER_NOT_FOUND = 존재하지 않는 주문입니다.
PAYMENT_NOT_FOUND = 존재하지 않는 결제입니다.
PRODUCT_NOT_FOUND = 존재하지 않는 상품입니다.
COUPON_NOT_FOUND = 존재하지 않는 쿠폰입니다.
CALLBACK_NOT_FOUND = 존재하지 않는 콜백 주소입니다.
DISCREPANCY_NOT_FOUND = 존재하지 않는 불일치 항목입니다.
CIRCUIT_NOT_FOUND = 존재하지 않는 서킷입니다.
METHOD_NOT_ALLOWED = 허용되지 않는 메서드입니다.

# What is there, but not so.
COUPON_ALREADY_ISSUED = 이미 발급받은 쿠폰입니다.
CONCURRENT_UPDATE = 동시에 처리된 다른 요청이 있습니다. 다시 시도해주세요.
IDEMPOTENCY_IN_PROGRESS = 같은 Idempotency-Key의 요청이 처리 중입니다.
ALREADY_RESOLVED = 이미 처리된 불일치 항목입니다.
PAYLOAD_TOO_LARGE = 요청 본문이 너무 큽니다.
HEADERS_TOO_LARGE = 요청 헤더가 너무 크거나 너무 많습니다.
UNSUPPORTED_MEDIA_TYPE = Content-Type은 application/json이어야 합니다.
IDEMPOTENCY_KEY_REUSED = 같은 Idempotency-Key로 다른 내용의 요청을 보냈습니다.
RATE_LIMITED = 요청이 너무 많습니다. 잠시 후 다시 시도해주세요.
SYNC_TOO_SOON = 방금 확인한 결제입니다. 잠시 후 다시 시도해주세요.

# The gateway.
PAYMENT_REFUSED = { $subject }
CIRCUIT_OPEN = 결제 서비스를 일시적으로 이용할 수 없어 주문이 취소되었습니다. 잠시 후 다시 시도해주세요.
GATEWAY_NOT_REACHED = 결제 서비스에 연결하지 못해 주문이 취소되었습니다. 잠시 후 다시 시도해주세요.
GATEWAY_NOT_ASKED = 결제 서비스에 확인할 수 없습니다. 잠시 후 다시 시도해주세요.

# Us.
DATABASE_UNAVAILABLE = 일시적으로 서비스를 이용할 수 없습니다. 잠시 후 다시 시도해주세요.
PAYMENT_NOT_SENT = 일시적인 장애로 결제를 요청하지 못해 주문이 취소되었습니다. 결제된 금액은 없습니다. 잠시 후 다시 시도해주세요.
OUTCOME_UNKNOWN = 주문이 접수되었는지 확인하지 못했습니다. 같은 Idempotency-Key로 다시 요청하거나 주문 목록을 확인해주세요.
OVERLOADED = 요청이 많아 처리할 수 없습니다. 잠시 후 다시 시도해주세요.
SHUTTING_DOWN = 서버가 종료되는 중입니다. 다시 시도해주세요.
INTERNAL_ERROR = 서버 내부 오류가 발생했습니다.

# A success that is not certain yet.
PAYMENT_UNCERTAIN = 결제를 확인하고 있습니다. 잠시 후 주문을 조회해주세요.

## Console. The frame.

overview = 개요
payments = 결제
discrepancies = 불일치
circuits = 서킷
reconciler = 리컨실러
skip = 본문으로 건너뛰기
navigation = 메뉴
stale = 갱신이 멈췄습니다. 아래 내용은 오래되었을 수 있습니다.
as-of = 기준 시각
operator = 담당자
no-operator = 이름 남기기
sign-in = 로그인
sign-out = 로그아웃
error = 오류
back-to-overview = 개요로 돌아가기
request-id = 요청 ID
database-away-help = PostgreSQL이 실행 중인지, 연결 수가 남아 있는지 확인하세요. 개요 화면은 데이터베이스 없이도 볼 수 있습니다.
internal-help = 요청 ID로 로그를 찾아보세요.

## Console. Signing in.

your-name = 이름 (감사 로그에 남습니다)
token = 운영 토큰 (ops.token)
wrong-token = 토큰이 올바르지 않습니다.
go-on = 계속
name-hint = 이 서버에서만 접속할 수 있어 토큰은 필요 없습니다.

## Console. The overview.

all-well = 이상 없음
all-well-detail = 지금 조치할 일이 없습니다.
needs-you = 조치가 필요합니다
orders-per-minute = 분당 주문
last-minute = 최근 1분
success-share = 성공 비율 (최근 5분)
accepted = 접수
refused = 카드 거절
troubled = 장애
no-orders = 최근 1시간 동안 이 서버에 주문이 없었습니다.
unsettled = 미확정 결제
none-unsettled = 미확정 결제가 없습니다.
oldest = 가장 오래된 것
under-1m = 1분 미만
under-5m = 1–5분
under-30m = 5–30분
over-30m = 30분 이상
latency-charge = PG 결제 요청 지연
latency-look-up = PG 조회 지연
no-calls = 최근 30분 동안 호출이 없었습니다.
last-5m = 최근 5분
calls = 호출
slow-line = 느림 기준
open-discrepancies = 미처리 불일치
no-discrepancies = 미처리 불일치가 없습니다.
watched = 감시 중인 결제
pools = 데이터베이스 연결
in-use = 사용 중
idle = 대기
waiting = 연결을 기다리는 요청
no-pools = 아직 수집된 값이 없습니다.
database-unread = 데이터베이스를 읽을 수 없습니다.
hour-ago = 1시간 전
half-hour-ago = 30분 전
now = 지금
this-process = 이 서버 프로세스의 값입니다. 다른 서버의 값은 그 서버의 콘솔에 있습니다.
show-all = 모두 보기

## Console. Payments.

status = 상태
any = 전체
age = 경과
any-age = 전체 기간
older-1m = 1분 넘은 것
older-5m = 5분 넘은 것
older-30m = 30분 넘은 것
older-1d = 하루 넘은 것
filter = 적용
find-payment = 결제·주문 번호로 찾기
find = 찾기
payment = 결제
order = 주문
buyer = 구매자
amount = 카드 금액
placed = 주문 시각
gateway-key = PG 거래 키
no-payments = 조건에 맞는 결제가 없습니다.
no-payments-yet = 아직 결제가 없습니다. 첫 주문이 들어오면 여기에 보입니다.
next-page = 다음
first-page = 처음으로
no-key = 없음

## Console. One payment.

what-next = 다음에 일어날 일
sync-now = 지금 PG에 확인
sync-help = PG에 이 결제를 물어보고, 답에 따라 확정합니다. 카드를 다시 청구하지 않습니다.
timeline = 경과
evidence = PG와 대조할 근거
merchant = 가맹점 ID
gateway-order = PG 주문 번호
send-deadline = 요청 전송 기한
card = 카드
masked = 카드 번호는 마스킹된 값만 저장됩니다.
no-card = 카드 금액 없음
goods = 주문 내용
total = 합계
used-point = 사용 포인트
coupon-discount = 쿠폰 할인
failure = 실패 사유
ledger-rows = 이 결제의 불일치
no-ledger-rows = 이 결제에 기록된 불일치가 없습니다.
no-change = 상태는 그대로, 거래 키만 바뀜

## Console. Discrepancies.

open = 미처리
resolved = 처리됨
found = 발견
what-it-means = 무슨 뜻인가
what-to-do = 무엇을 할 것인가
seen = 확인된 내용
resolve = 처리 완료로 표시
resolution = 조치
choose = 선택하세요
gateway-amount = PG 금액
note = 메모
note-hint = PG와 확인한 내용, 문의 번호 등. 카드 번호는 적지 마세요.
none-open = 미처리 불일치가 없습니다. PG의 모든 청구가 주문과 맞습니다.
none-resolved = 처리된 불일치가 없습니다.
none-at-all = 기록된 불일치가 없습니다.
resolved-by = 처리한 사람
never-deleted = 행은 지워지지 않습니다. 처리 기록은 감사 로그에도 남습니다.
done-refunded = PG에서 환불함
done-cancelled = PG에서 승인 취소함
done-no-charge = 실제 청구 없음을 확인함
done-accepted = 손실로 처리함
done-other = 기타 (메모 참조)

## Console. Circuits.

circuit-window = 최근 호출 창
failure-rate = 실패율
slow-rate = 느린 호출
not-permitted = 차단된 호출
opens-at = 차단 기준
unknown-rate = 아직 모름
last-hour = 최근 1시간의 상태
failure-rate-hour = 최근 1시간의 실패율
failed = 실패
good = 정상
free = 빈 자리
by-hand = 직접 조작
by-hand-help = 이 서버 프로세스에만 적용되고, 재시작하면 처음 상태로 돌아갑니다.
force-open = 강제로 차단
force-open-help = PG를 부르지 않습니다. 카드 주문은 모두 바로 거절됩니다.
force-open-query-help = PG에 조회하지 않습니다. 미확정 결제가 확정되지 않고 쌓입니다.
close = 닫기
close-help = PG를 다시 부르고, 창을 비운 채 처음부터 셉니다.
disable = 끄기
disable-help = 모든 호출을 보내고 아무것도 세지 않습니다. PG가 느리면 주문이 기다립니다.
reset = 초기화
reset-help = 시작할 때의 상태로 되돌립니다.
confirm = 실행

## Console. The reconciler.

schedule = 일정
coming = 다음에 확인할 결제
due = 예정
nothing-coming = 확인할 결제가 없습니다.
lately = 리컨실러가 최근 확정한 것
nothing-lately = 최근 기록 1,000건 안에 리컨실러가 바꾼 결제가 없습니다.
turns-elsewhere = 리컨실러의 실행 기록은 저장되지 않고 그 프로세스의 /metrics에만 있습니다. 여기에는 데이터베이스에서 보이는 것만 있습니다: 다음에 확인할 결제와 최근에 바뀐 결제.
its-metrics = 리컨실러의 지표 (설정된 주소)
parked = 보류됨
under-way = 확인 중
overdue = 지연
failures = 연속 실패
on-watch = 감시 목록
more-coming = 그 밖에 더 있습니다. 결제 화면에서 찾을 수 있습니다.
reason = 사유
when = 시각
verdict-running = 밀린 확인이 없습니다.

## Console. What has just happened.

notice-paid = PG의 승인을 확인해 결제 완료로 확정했습니다.
notice-failed = PG의 답에 따라 결제 실패로 확정하고 재고·쿠폰·포인트를 돌려놓았습니다.
notice-waiting = PG에 확인했지만 아직 결정되지 않았습니다. 아래 예정대로 다시 확인합니다.
notice-ended = 이미 확정된 결제라 확인할 것이 없습니다.
notice-too-soon = 방금 확인했거나 다른 작업이 확인 중입니다. 잠시 후 다시 눌러주세요.
notice-not-asked = PG에 연결할 수 없거나 pg-query 서킷이 열려 있습니다. 아무것도 바뀌지 않았습니다.
notice-not-examined = 확인하지 못했습니다. 로그에 원인이 있고, 나중에 다시 확인합니다.
notice-parked = 거듭 실패하여 보류되었습니다. 불일치 목록에 기록되었습니다.
notice-resolved = 처리 완료로 기록했습니다.
notice-resolved-before = 이미 다른 사람이 처리했습니다. 아래 기록을 확인하세요.
notice-circuit-set = 서킷 상태를 바꾸었습니다.

## Console. States and causes.

status-PENDING = PG 요청 전
status-IN_PROGRESS = PG 확인 중
status-PAID = 결제 완료
status-FAILED = 실패, 주문 취소
circuit-CLOSED = 정상: 호출이 나갑니다
circuit-OPEN = 차단: 호출하지 않습니다
circuit-HALF_OPEN = 시험 중: 몇 건만 보내 봅니다
circuit-FORCED_OPEN = 직접 차단함: 풀기 전까지 호출하지 않습니다
circuit-DISABLED = 꺼짐: 모두 보내고 세지 않습니다
circuit-METRICS_ONLY = 기록만: 차단하지 않습니다
circuit-unknown = 알 수 없음
cause-api = 주문 처리
cause-callback = PG 콜백
cause-reconciler = 리컨실러
cause-operator = 직접 확인

## Console. Kinds of discrepancies: what each means, and what a person should do.

kind-DUPLICATE_CHARGE = 이미 결제된 주문이 한 번 더 승인되었습니다. 구매자가 두 번 청구되었습니다.
to-do-DUPLICATE_CHARGE = PG에서 이 거래 키의 승인을 취소하세요.
kind-AMOUNT_MISMATCH = PG가 주문과 다른 금액을 승인했습니다. 주문은 취소되었습니다.
to-do-AMOUNT_MISMATCH = PG에서 이 거래를 취소하고, 금액이 왜 달랐는지 PG에 문의하세요.
kind-ORDER_MISMATCH = 우리 주문의 거래 목록에 다른 주문의 거래가 있습니다.
to-do-ORDER_MISMATCH = 거래 키로 PG에 문의해 누구의 청구인지 확인하고, 주인이 없으면 취소하세요.
kind-PG_LOST = PG가 자기가 준 거래 키를 모르거나 다른 주문에 씁니다.
to-do-PG_LOST = PG가 초기화되었거나 가맹점 ID가 바뀌었는지 확인하고, 청구 여부를 PG에 문의하세요.
kind-LATE_SUCCESS = 주문이 취소된 뒤에 PG가 승인했습니다. 구매자가 물건 없이 청구되었습니다.
to-do-LATE_SUCCESS = PG에서 승인을 취소해 구매자에게 돌려주세요. 재고는 이미 돌려놓았습니다.
kind-KEY_REUSED = PG가 같은 거래 키를 두 결제에 주었습니다.
to-do-KEY_REUSED = 두 결제의 청구를 PG에 문의하고, 청구된 쪽을 취소하세요.
kind-CONFLICT = 결제 완료된 주문의 거래를 PG가 이제 실패라고 합니다.
to-do-CONFLICT = PG에 정산 여부를 확인하세요. 청구되지 않았다면 물건을 보내기 전에 구매자와 연락하세요.
kind-NEVER_SETTLED = 24시간 넘게 PG에서 결정되지 않은 거래입니다.
to-do-NEVER_SETTLED = PG에 거래 키로 문의해 끝을 확인하고, 승인되었다면 취소하세요.
kind-POISON = 이 결제는 확인할 때마다 실패해 보류되었습니다.
to-do-POISON = 로그에서 원인을 찾고, 고친 뒤 결제 화면에서 직접 확인을 누르세요.

## Console. Numbers and times.

won = { $amount }원
length-days = { $days }일 { $hours }시간
length-hours = { $hours }시간 { $minutes }분
length-minutes = { $minutes }분 { $seconds }초
length-seconds = { $seconds }초
in-a-while = { $length } 뒤
a-while-ago = { $length } 전
minutes-ago = { $minutes }분 전: 접수 { $accepted }, 카드 거절 { $refused }, 장애 { $troubled }

## Console. A circuit's window in words.

window-too-few = { $size }건 중 { $recorded }건 기록됨. { $minimum }건부터 비율을 셉니다.
window-calls = { $size }건 중 { $recorded }건 기록됨, 실패 { $failed }건.
window-seconds = 최근 { $size }초 동안 { $recorded }건, 실패 { $failed }건.

## Console. What happens next to a payment.

next-parked = 확인이 거듭 실패해 보류되었습니다. 아래 버튼을 누르거나 콜백이 올 때까지 아무 일도 일어나지 않습니다.
next-unknown = PG가 요청을 받았는지 아직 모릅니다.
next-by-key = { $when }에 리컨실러가 PG에 거래 키로 확인합니다. 그 전에 콜백이 오면 바로 확인합니다.
next-by-order = { $when }에 리컨실러가 PG에 주문 번호로 확인합니다. 그 전에 콜백이 오면 바로 확인합니다.
next-forced = { $when } 뒤에도 PG가 결정하지 않으면 결제 실패로 확정하고 모두 돌려놓습니다.
next-watched = 확정되었습니다. 늦은 승인이 없는지 { $when }에 PG를 다시 확인합니다 (감시 목록).
next-nothing = 확정되었습니다. 더 일어날 일이 없습니다.

## Console. Alarms: what is wrong, whom it touches, what to press.

alarm-database = 데이터베이스에 연결할 수 없습니다
alarm-database-touches = 모든 구매자: 주문이 503으로 거절되고, 아무것도 청구되지 않습니다. PostgreSQL과 연결 수를 확인하세요.
alarm-stuck = { $age }째 확정되지 않은 결제가 있습니다
alarm-stuck-touches = 구매자가 결과를 기다립니다. 리컨실러나 PG 조회가 막혀 있을 수 있습니다.
alarm-stuck-press = 오래된 결제 보기
alarm-overdue = 확인이 2분 넘게 밀린 결제 { $count }건: 리컨실러가 돌지 않는 것 같습니다
alarm-overdue-touches = 결과를 기다리는 구매자가 계속 늘어납니다. 리컨실러 프로세스를 확인하세요.
show-reconciler = 리컨실러 보기
overdue-looks = { $count }건의 확인이 2분 넘게 밀렸습니다. 리컨실러 프로세스가 돌고 있는지 확인하세요.
alarm-parked = 보류된 결제 { $count }건
alarm-parked-touches = 확인이 거듭 실패하여 직접 확인을 누르기 전까지 아무도 보지 않습니다.
alarm-parked-press = 결제 보기
alarm-discrepancies = 미처리 불일치 { $count }건
alarm-discrepancies-touches = 그중 { $count }건은 구매자의 카드가 주문과 다르게 청구된 것입니다.
alarm-discrepancies-press = 처리하기
alarm-cut-off = 서킷 { $name } { $state }: PG를 부르지 않습니다
alarm-cut-off-payments = 카드로 주문하는 모든 구매자: 주문이 바로 거절되고 취소됩니다. 아무도 청구되지 않습니다.
alarm-cut-off-look-ups = 결과를 기다리는 구매자: PG에 물을 수 없어 결제가 확정되지 않습니다.
alarm-probing = 서킷 { $name } HALF_OPEN: PG가 돌아왔는지 시험 중입니다
alarm-probing-payments = 카드로 주문하는 구매자 대부분: 시험 호출이 성공할 때까지 바로 거절됩니다.
alarm-unprotected = 서킷 { $name } { $state }: 보호가 꺼져 있습니다
alarm-unprotected-touches = PG가 느려지면 모든 구매자의 주문이 함께 느려집니다.
show-circuits = 서킷 보기
alarm-troubled = 최근 5분 동안 주문 { $total }건 중 { $troubled }건이 장애로 거절되었습니다
alarm-troubled-touches = 거절된 구매자는 청구되지 않았고, 다시 주문할 수 있습니다.
