// The operator's console in a real browser: every page, in both languages, light, dark, on a phone, and without JavaScript;
// a stuck payment followed to its sync, a discrepancy to its resolution; no request leaves the machine.
//
// `cargo xtask browser` runs it against a running `cargo xtask up` and gives it what it needs in the environment. It prints
// one line for each thing that was shown, and ends with exit code 1 at the first that was not.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { chromium } from "playwright-core";

const { OPS, API, SIMULATOR, CHROMIUM, SCREENSHOTS } = process.env;
const PATIENCE = 60_000;
const PAGES = ["/", "/payments", "/payments?status=PAID&older=24h", "/discrepancies", "/discrepancies?status=ALL", "/circuits", "/reconciler", "/login"];
const HOSTILE = "<script>document.title='taken over'</script>";
const requests = [];
const complaints = [];

const shown = (what) => console.log(`ok  ${what}`);

const json = async (method, url, body, headers = {}) => {
  const answer = await fetch(url, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${url} answered ${answer.status}: ${text}`);
  return JSON.parse(text);
};

const until = async (what, look) => {
  const end = Date.now() + PATIENCE;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  assert.fail(`it did not come to this in time: ${what}`);
};

const knobs = (patch) => json("PATCH", `${SIMULATOR}/admin/config`, patch);

// One order by card; its payment waits, since the gateway's callback is lost.
const stuckPayment = async (product) => {
  const order = { items: [{ productId: product, quantity: 1 }], cardType: "SAMSUNG", cardNo: "1234-5678-9814-1451" };
  const placed = await json("POST", `${API}/api/v1/orders`, order, { "x-user-id": "1" });
  return placed.data.paymentId;
};

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // Root needs no sandbox in a container; names other than this machine's lead nowhere.
  args: ["--no-sandbox", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"],
});

const open = async (options = {}) => {
  const context = await browser.newContext({ locale: "en-US", viewport: { width: 1280, height: 900 }, ...options });
  context.on("request", (request) => requests.push(request.url()));
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  return page;
};

const visit = async (page, path) => {
  const answer = await page.goto(OPS + path);
  assert.ok(answer.ok(), `${path} answered ${answer.status()}`);
  assert.equal(await page.locator("main h1").count() > 0, true, `${path} has a heading`);
};

const shot = async (page, name) => {
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, fullPage: true });
};

const everyPage = async () => {
  for (const [locale, lang] of [["en-US", "en"], ["ko-KR", "ko"]]) {
    const page = await open({ locale });
    for (const path of PAGES) {
      await visit(page, path);
      assert.equal(await page.locator("html").getAttribute("lang"), lang);
    }
    await page.context().close();
  }
  shown(`${PAGES.length} pages in both languages`);
  const plain = await open({ javaScriptEnabled: false });
  for (const path of PAGES) await visit(plain, path);
  await plain.context().close();
  shown("every page without JavaScript");
};

const followPayment = async (page, product) => {
  const payment = await stuckPayment(product);
  await visit(page, "/payments");
  await page.selectOption("select[name=status]", "UNSETTLED");
  await page.locator("form.filter button").first().click();
  await page.locator(`a[href="/payments/${payment}"]`).click();
  await page.waitForURL(`**/payments/${payment}`);
  assert.equal(await page.locator("h1 .badge").innerText(), "IN_PROGRESS");
  assert.match(await page.locator(".next").innerText(), /the reconciler asks the gateway by its key/);
  await shot(page, "payment-waiting-light");
  await until("the payment is PAID", async () => {
    if ((await page.locator("#sync").count()) === 0) return true;
    await page.locator("#sync").click();
    await page.waitForURL(/notice=/);
    return /notice=paid/.test(page.url());
  });
  assert.equal(await page.locator("h1 .badge").innerText(), "PAID");
  assert.match(await page.locator(".timeline").innerText(), /a sync by hand/);
  await shot(page, "payment-paid-light");
  shown(`stuck payment ${payment} followed to its sync: PAID`);
};

const followDiscrepancy = async (page, product) => {
  await knobs({ request: { wrong_amount: 1 } });
  const payment = await stuckPayment(product);
  await knobs({ request: { wrong_amount: 0 } });
  await until("the wrong amount is in the ledger", async () => {
    await visit(page, `/payments/${payment}`);
    if ((await page.locator(".ledger a").count()) > 0) return true;
    if ((await page.locator("#sync").count()) > 0) {
      await page.locator("#sync").click();
      await page.waitForURL(/notice=/);
    }
    return false;
  });
  assert.equal(await page.locator("h1 .badge").innerText(), "FAILED");
  assert.match(await page.locator(".goods").innerText(), /<script>/);
  assert.match(await page.title(), /^Payment/);
  await visit(page, "/");
  await page.getByRole("link", { name: "Settle them" }).click();
  await page.waitForURL("**/discrepancies");
  await shot(page, "discrepancies-light");
  const row = page.locator(".ledger li", { has: page.locator(`a[href="/payments/${payment}"]`) });
  await row.locator("h3 a").click();
  await page.waitForURL(/discrepancies\/\d+$/);
  await shot(page, "discrepancy-open-light");
  await page.selectOption("select[name=resolution]", "CANCELLED");
  await page.fill("textarea[name=note]", "Cancelled with the gateway, case 7");
  await page.locator("#resolve").click();
  await page.waitForURL(/notice=resolved$/);
  const facts = await page.locator(".facts").innerText();
  assert.match(facts, /CANCELLED/);
  assert.match(facts, /case 7/);
  assert.match(facts, /night shift/);
  shown(`discrepancy of payment ${payment} followed to its resolution`);
};

// The overview follows by itself, and the circuits obey the keyboard.
const liveAndKeyboard = async (page) => {
  await visit(page, "/");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  const second = await open();
  await visit(second, "/circuits");
  const command = second.locator("section", { hasText: "pg-payment" }).locator("details", { hasText: "Force open" });
  await command.locator("summary").focus();
  await second.keyboard.press("Enter");
  await second.keyboard.press("Tab");
  await second.keyboard.press("Enter");
  await second.waitForURL(/notice=circuit-set/);
  await page.getByText("Circuit pg-payment is FORCED_OPEN").waitFor();
  await page.evaluate(() => document.activeElement.blur());
  await shot(page, "overview-alarm-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "overview-alarm-dark");
  await page.emulateMedia({ colorScheme: "light" });
  await visit(second, "/circuits");
  await second.locator("section", { hasText: "pg-payment" }).locator("details", { hasText: "Close" }).locator("summary").click();
  await second.locator("details[open] button").click();
  await second.waitForURL(/notice=circuit-set/);
  await page.getByText("Circuit pg-payment is FORCED_OPEN").waitFor({ state: "detached" });
  await second.context().close();
  shown("the overview follows without loading again; circuits obey the keyboard");
};

const looks = async () => {
  const payments = await json("GET", `${OPS}/admin/payments?limit=1`);
  const rows = await json("GET", `${OPS}/admin/discrepancies?limit=1`);
  const all = {
    overview: "/",
    payments: "/payments",
    payment: `/payments/${payments.data.payments[0].paymentId}`,
    discrepancies: "/discrepancies?status=ALL",
    discrepancy: `/discrepancies/${rows.data.discrepancies[0].discrepancyId}`,
    circuits: "/circuits",
    reconciler: "/reconciler",
    login: "/login",
  };
  const ways = {
    light: { colorScheme: "light" },
    dark: { colorScheme: "dark" },
    "phone-ko": { colorScheme: "light", locale: "ko-KR", viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  };
  for (const [way, options] of Object.entries(ways)) {
    const page = await open(options);
    for (const [name, path] of Object.entries(all)) {
      await visit(page, path);
      const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(width <= room, `${path} is ${width} wide on a screen of ${room}`);
      await shot(page, `${name}-${way}`);
    }
    await page.context().close();
  }
  shown("light, dark and phone: nothing is wider than its screen");
};

await mkdir(SCREENSHOTS, { recursive: true });
const { data: before } = await json("GET", `${SIMULATOR}/admin/config`);
try {
  await knobs({ request: { error_500: 0 }, callback: { dropped: 1 }, settlement: { processing: { min: "200ms", max: "500ms" }, success: 1, limit_exceeded: 0, invalid_card: 0 } });
  const addProduct = async (name) => (await json("POST", `${OPS}/admin/products`, { name, price: 24000, stock: 10 })).data.productId;
  const product = await addProduct("텀블러 500ml");
  const hostile = await addProduct(HOSTILE);
  await everyPage();
  const page = await open();
  await visit(page, "/login");
  await page.fill("input[name=name]", "night shift");
  await page.locator("button.primary").click();
  await page.waitForURL(`${OPS}/`);
  await followPayment(page, product);
  await followDiscrepancy(page, hostile);
  await liveAndKeyboard(page);
  await looks();
  const foreign = requests.filter((url) => new URL(url).origin !== new URL(OPS).origin);
  assert.deepEqual(foreign, [], "a request left the machine");
  assert.deepEqual(complaints, [], "the browser complained");
  shown(`${requests.length} requests, none to another host; the browser had no complaint`);
} finally {
  await json("PUT", `${SIMULATOR}/admin/config`, before);
  await browser.close();
}
