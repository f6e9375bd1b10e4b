### Everything that people read. The keys are those of ko.ftl; a text stands on one line (docs/console.md, "Texts").

## API: the key is the `reason` of the answer. Korean texts that the domain also has must be the same.

# The request itself.
MALFORMED_JSON = The request body is not valid JSON.
BODY_UNREADABLE = The request body could not be read to its end in time.
MISSING_FIELD = A required field is missing: { $subject }
INVALID_FIELD = A field has a value of a wrong type or out of range: { $subject }
INVALID_PARAMETER = A parameter of the path, the query or a header is not valid: { $subject }
USER_ID_REQUIRED = The header X-USER-ID is required.
INVALID_USER_ID = The header X-USER-ID must be one positive integer.
INVALID_IDEMPOTENCY_KEY = The header Idempotency-Key must have 1 to 255 printable ASCII characters.

# What is ordered.
NO_ITEMS = An order needs at least one item.
TOO_MANY_ITEMS = An order may have at most 100 different products.
INVALID_QUANTITY = A quantity must be between 1 and 2147483647.
OUT_OF_STOCK = The stock does not suffice.
INVALID_STOCK = The stock's quantity is out of range.
TOTAL_NOT_POSITIVE = The order's total must be more than 0.
AMOUNT_OVERFLOW = The amount is out of range.

# How it is paid.
COUPON_ALREADY_USED = The coupon has been used.
COUPON_NOT_OWNED = You do not have this coupon.
COUPON_EXPIRED = The coupon has expired.
DISCOUNT_NOT_POSITIVE = A discount must be more than 0.
RATE_OUT_OF_RANGE = A discount rate must be between 1 and 100.
INSUFFICIENT_POINT = The points do not suffice.
CHARGE_NOT_POSITIVE = A charge must be more than 0.
USED_POINT_NEGATIVE = The points to use must be 0 or more.
PAID_AMOUNT_NEGATIVE = More points are used than the order costs.
AMOUNT_MISMATCH = The parts of the payment do not add up to the order's total.
CARD_REQUIRED = Something is left for a card: cardType and cardNo are needed.
INVALID_CARD_NUMBER = A card number has the form xxxx-xxxx-xxxx-xxxx.
INVALID_CARD_TYPE = This card company is not supported.

# Who asks.
TOKEN_REQUIRED = A bearer token is required.
INVALID_TOKEN = The bearer token is not valid.
USER_ID_NOT_TRUSTED = X-USER-ID is taken only from the gateway in front of this server.
SELF_CHARGE_DISABLED = Points can't be charged by their owner.
LOOPBACK_ONLY = Without a token the operations API serves its own machine only.
CROSS_SITE = Requests from other sites are not allowed.

# What is not there.
UNKNOWN_PATH = There is no such path.
ORDER_NOT_FOUND = There is no such order.
PAYMENT_NOT_FOUND = There is no such payment.
PRODUCT_NOT_FOUND = There is no such product.
COUPON_NOT_FOUND = There is no such coupon.
CALLBACK_NOT_FOUND = There is no such callback address.
DISCREPANCY_NOT_FOUND = There is no such row in the discrepancy ledger.
CIRCUIT_NOT_FOUND = There is no such circuit.
METHOD_NOT_ALLOWED = This path does not take this method.

# What is there, but not so.
COUPON_ALREADY_ISSUED = You have this coupon already.
CONCURRENT_UPDATE = Another request was faster; nothing was taken. Please try again.
IDEMPOTENCY_IN_PROGRESS = A request with the same Idempotency-Key is still under way.
ALREADY_RESOLVED = This row of the ledger has been resolved.
PAYLOAD_TOO_LARGE = The request body is too large.
HEADERS_TOO_LARGE = The request's headers are too large or too many.
UNSUPPORTED_MEDIA_TYPE = The Content-Type must be application/json.
IDEMPOTENCY_KEY_REUSED = The same Idempotency-Key was used with other content.
RATE_LIMITED = Too many requests. Please try again later.
SYNC_TOO_SOON = This payment has just been asked about. Please try again later.

# The gateway.
PAYMENT_REFUSED = The payment gateway refused the payment: { $subject }
CIRCUIT_OPEN = The payment gateway is in trouble and was not called; the order is cancelled. Please try again later.
GATEWAY_NOT_REACHED = The payment gateway could not be reached; the order is cancelled. Please try again later.
GATEWAY_NOT_ASKED = The payment gateway can't be asked now; nothing changed. Please try again later.

# Us.
DATABASE_UNAVAILABLE = The service is out of order for the moment. Please try again later.
PAYMENT_NOT_SENT = The order was cancelled before the payment gateway was asked: the service was out of order for a moment. Nothing was charged. Please try again later.
OUTCOME_UNKNOWN = Whether the order was stored is not known. Repeat the request with its Idempotency-Key, or look at your orders.
OVERLOADED = The service is overloaded; nothing was taken. Please try again later.
SHUTTING_DOWN = This server is stopping; nothing was taken. Please try again.
INTERNAL_ERROR = An internal error occurred.

# A success that is not certain yet.
PAYMENT_UNCERTAIN = The payment is being confirmed. Please look at the order in a moment.

## Console. The frame.

overview = Overview
payments = Payments
discrepancies = Discrepancies
circuits = Circuits
reconciler = Reconciler
skip = Skip to content
navigation = Navigation
stale = Updates have stopped. What you see may be out of date.
as-of = As of
operator = Operator
no-operator = Say who you are
sign-in = Sign in
sign-out = Sign out
error = Error
back-to-overview = Back to the overview
request-id = Request id
database-away-help = Check that PostgreSQL runs and has connections left. The overview works without the database.
internal-help = Look the request id up in the log.

## Console. Signing in.

your-name = Your name (it is kept in the audit log)
token = Operations token (ops.token)
wrong-token = The token is not right.
go-on = Continue
name-hint = This port serves its own machine only, so no token is needed.

## Console. The overview.

all-well = All is well
all-well-detail = Nothing needs you now.
needs-you = This needs you
orders-per-minute = Orders a minute
last-minute = last minute
success-share = Success share (last 5 min)
accepted = Accepted
refused = Card refused
troubled = Trouble
no-orders = No orders on this server in the last hour.
unsettled = Unsettled payments
none-unsettled = No payment is waiting for its end.
oldest = Oldest
under-1m = under 1 min
under-5m = 1–5 min
under-30m = 5–30 min
over-30m = over 30 min
latency-charge = Gateway: payment requests
latency-look-up = Gateway: look-ups
no-calls = No calls in the last 30 minutes.
last-5m = last 5 min
calls = calls
slow-line = slow
open-discrepancies = Open discrepancies
no-discrepancies = No open discrepancies.
watched = Payments on the watch list
pools = Database connections
in-use = in use
idle = idle
waiting = waiting
no-pools = Nothing recorded yet.
database-unread = The database can't be read.
hour-ago = 1 h ago
half-hour-ago = 30 min ago
now = now
this-process = Numbers of this server process. Other servers have a console of their own.
show-all = Show all

## Console. Payments.

status = Status
any = Any
age = Age
any-age = Any age
older-1m = Over 1 min
older-5m = Over 5 min
older-30m = Over 30 min
older-1d = Over a day
filter = Filter
find-payment = Find by payment or order number
find = Find
payment = Payment
order = Order
buyer = Buyer
amount = On the card
placed = Placed
gateway-key = Gateway key
no-payments = No payment matches.
no-payments-yet = There are no payments yet. They appear here with the first order.
next-page = Next page
first-page = First page
no-key = none

## Console. One payment.

what-next = What happens next
sync-now = Ask the gateway now
sync-help = Asks the gateway about this payment and settles it by the answer. The card is never charged again.
timeline = Timeline
evidence = Gateway evidence
merchant = Merchant id
gateway-order = Order id at the gateway
send-deadline = Send deadline
card = Card
masked = Only the masked number is stored.
no-card = nothing on a card
goods = What was ordered
total = Total
used-point = Points used
coupon-discount = Coupon discount
failure = Failure
ledger-rows = Its discrepancies
no-ledger-rows = None is recorded for this payment.
no-change = same status, key changed

## Console. Discrepancies.

open = Open
resolved = Resolved
found = Found
what-it-means = What it means
what-to-do = What to do
seen = What was seen
resolve = Mark as resolved
resolution = What was done
choose = Choose
gateway-amount = At the gateway
note = Note
note-hint = What the gateway said, a case number. No card numbers.
none-open = None is open: every charge that was looked at matches a paid order.
none-resolved = None was resolved yet.
none-at-all = None is recorded.
resolved-by = Resolved by
never-deleted = Rows are never deleted; resolving is also written to the audit log.
done-refunded = Refunded at the gateway
done-cancelled = Cancelled at the gateway
done-no-charge = Confirmed that nothing was charged
done-accepted = Accepted as a loss
done-other = Other (see the note)

## Console. Circuits.

circuit-window = Window of calls
failure-rate = Failure rate
slow-rate = Slow calls
not-permitted = Calls not let through
opens-at = opens at
unknown-rate = not known yet
last-hour = States of the last hour
failure-rate-hour = Failure rate of the last hour
failed = Failed
good = Good
free = Free
by-hand = By hand
by-hand-help = Applies to this server process only, until it restarts.
force-open = Force open
force-open-help = The gateway is not called. Every card order is refused at once.
force-open-query-help = No look-ups are made. Unsettled payments pile up.
close = Close
close-help = The gateway is called again; counting starts with an empty window.
disable = Disable
disable-help = Every call is made and nothing is counted. With a slow gateway orders wait.
reset = Reset
reset-help = As after the program's start.
confirm = Do it

## Console. The reconciler.

schedule = Schedule
coming = What is looked at next
due = Due
nothing-coming = Nothing is waiting to be looked at.
lately = What the reconciler changed lately
nothing-lately = It changed nothing within the last 1,000 changes.
turns-elsewhere = A turn leaves no record but the metrics of the reconciler's own process. What is shown here is what the database shows: what is due, and what was changed lately.
its-metrics = The reconciler's metrics (address in the settings)
parked = parked
under-way = under way
overdue = overdue
failures = Failures
on-watch = watch list
more-coming = There are more; find them among the payments.
reason = Reason
when = When
verdict-running = Nothing is overdue.

## Console. What has just happened.

notice-paid = The gateway has approved it: the payment is PAID.
notice-failed = By the gateway's answer the payment is FAILED; stock, coupon and points are back.
notice-waiting = The gateway was asked, and has not decided yet. It will be asked again as shown below.
notice-ended = The payment has ended: there is nothing to ask.
notice-too-soon = It was asked about just now, or somebody is at it. Try again in a moment.
notice-not-asked = The gateway can't be asked, or the circuit pg-query is open. Nothing has changed.
notice-not-examined = It could not be examined; the log says why. It will be tried again.
notice-parked = It failed again and again and is parked, with a row in the ledger.
notice-resolved = It is marked as resolved.
notice-resolved-before = Somebody has resolved it before. See the record below.
notice-circuit-set = The circuit's state is set.

## Console. States and causes.

status-PENDING = not sent yet
status-IN_PROGRESS = being confirmed
status-PAID = charged
status-FAILED = failed, order cancelled
circuit-CLOSED = normal: calls are made
circuit-OPEN = cut off: no calls are made
circuit-HALF_OPEN = probing: a few calls are let through
circuit-FORCED_OPEN = cut off by hand until changed by hand
circuit-DISABLED = disabled: every call is made, nothing counted
circuit-METRICS_ONLY = recording only: never cuts off
circuit-unknown = unknown
cause-api = the order itself
cause-callback = the gateway's callback
cause-reconciler = the reconciler
cause-operator = a sync by hand

## Console. Kinds of discrepancies: what each means, and what a person should do.

kind-DUPLICATE_CHARGE = A paid order was approved once more: the buyer is charged twice.
to-do-DUPLICATE_CHARGE = Cancel the transaction of this key at the gateway.
kind-AMOUNT_MISMATCH = The gateway approved another amount than ours; the order is cancelled.
to-do-AMOUNT_MISMATCH = Cancel the transaction at the gateway, and ask why the amount differs.
kind-ORDER_MISMATCH = A transaction listed for our order says that it is another order's.
to-do-ORDER_MISMATCH = Ask the gateway whose charge it is; if nobody's, have it cancelled.
kind-PG_LOST = The gateway does not know the key that it gave us, or uses it for another order.
to-do-PG_LOST = Check for a wiped gateway or a changed merchant id; ask whether the card was charged.
kind-LATE_SUCCESS = Approved after the order was cancelled: the buyer is charged and gets nothing.
to-do-LATE_SUCCESS = Cancel the charge at the gateway, so that the buyer has his money back.
kind-KEY_REUSED = The gateway gave one key to two of our payments.
to-do-KEY_REUSED = Ask the gateway about both charges, and have the unmatched one cancelled.
kind-CONFLICT = The gateway now calls the transaction of a paid order FAILED.
to-do-CONFLICT = Check the settlement with the gateway; if nothing was charged, contact the buyer before shipping.
kind-NEVER_SETTLED = A transaction that the gateway has not decided even after a day.
to-do-NEVER_SETTLED = Ask the gateway how it ends; if it was approved, have it cancelled.
kind-POISON = Examining this payment failed again and again; it is parked.
to-do-POISON = Find the cause in the log, then press the sync button on the payment's page.

## Console. Numbers and times.

won = { $amount } won
length-days = { $days }d { $hours }h
length-hours = { $hours }h { $minutes }m
length-minutes = { $minutes }m { $seconds }s
length-seconds = { $seconds }s
in-a-while = in { $length }
a-while-ago = { $length } ago
minutes-ago = { $minutes } min ago: Accepted { $accepted }, Card refused { $refused }, Trouble { $troubled }

## Console. A circuit's window in words.

window-too-few = { $recorded } of { $size } calls recorded. Rates are known from { $minimum } on.
window-calls = { $recorded } of { $size } calls recorded, { $failed } failed.
window-seconds = { $recorded } calls in the last { $size } s, { $failed } failed.

## Console. What happens next to a payment.

next-parked = Examining it failed again and again: it is parked. Nothing happens until you press the button below or a callback comes.
next-unknown = Whether the gateway got the request is not known yet.
next-by-key = At { $when } the reconciler asks the gateway by its key; sooner when a callback comes.
next-by-order = At { $when } the reconciler asks the gateway by the order id; sooner when a callback comes.
next-forced = If the gateway has not decided after { $when }, the payment fails and everything is given back.
next-watched = It has ended. At { $when } the gateway is asked once more for a late charge (watch list).
next-nothing = It has ended. Nothing more happens.

## Console. Alarms: what is wrong, whom it touches, what to press.

alarm-database = The database is out of reach
alarm-database-touches = All buyers: orders are refused with 503, nobody is charged. Check PostgreSQL and its connections.
alarm-stuck = A payment has not been settled for { $age }
alarm-stuck-touches = Its buyer is waiting. The reconciler or the look-ups may be blocked.
alarm-stuck-press = Show old payments
alarm-overdue = { $count ->
    [one] 1 payment is over 2 min late for a look: the reconciler seems not to run
   *[other] { $count } payments are over 2 min late for a look: the reconciler seems not to run
  }
alarm-overdue-touches = More and more buyers wait for their outcome. Check the reconciler's process.
show-reconciler = Show the reconciler
overdue-looks = { $count ->
    [one] 1 look is more than 2 min late. Check that the reconciler's process runs.
   *[other] { $count } looks are more than 2 min late. Check that the reconciler's process runs.
  }
alarm-parked = { $count ->
    [one] 1 payment is parked
   *[other] { $count } payments are parked
  }
alarm-parked-touches = Examining them failed again and again; nobody looks at them until a sync by hand.
alarm-parked-press = Show the payment
alarm-discrepancies = { $count ->
    [one] 1 open discrepancy
   *[other] { $count } open discrepancies
  }
alarm-discrepancies-touches = In { $count } of them a card was charged other than by its order.
alarm-discrepancies-press = Settle them
alarm-cut-off = Circuit { $name } is { $state }: the gateway is not called
alarm-cut-off-payments = Everyone who pays by card: orders are refused at once and cancelled. Nobody is charged.
alarm-cut-off-look-ups = Buyers who wait for their outcome: the gateway can't be asked, so nothing is settled.
alarm-probing = Circuit { $name } is HALF_OPEN: probing the gateway
alarm-probing-payments = Most who pay by card: refused at once until the probes succeed.
alarm-unprotected = Circuit { $name } is { $state }: its protection is off
alarm-unprotected-touches = When the gateway gets slow, every buyer's order gets slow with it.
show-circuits = Show the circuits
alarm-troubled = { $troubled } of { $total } orders of the last 5 min were refused for trouble of ours or the gateway's
alarm-troubled-touches = Those buyers were not charged and can order again.
