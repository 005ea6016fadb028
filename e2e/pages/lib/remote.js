/**
 * Drives one browser for a test in another process, which reads and writes lines of
 * JSON: a request {id, method, ...} gets a response {id, result} or {id, error}. The
 * arguments are the browser, chromium or firefox, and the profile of Firefox.
 * Chromium reads the trusted CAs of HOME.
 */

import {createInterface} from 'node:readline';
import * as chromium from './browser.js';
import * as firefox from './firefox.js';

/**
 * @typedef {object} Request
 * @property {number} id
 * @property {string} method
 * @property {string} page the name of a page
 * @property {string} [url] for open
 * @property {Options} [options] for open
 *
 * @typedef {object} Options of a page
 * @property {boolean} [relayOnly] sets iceTransportPolicy
 * @property {string[]} [schemes] keeps only these schemes of the URLs in GET /ice, such as turns
 * @property {object} [ice] replaces the response of GET /ice
 * @property {boolean} [allowErrors] accepts errors in the console
 */

/** ChromiumBrowser opens each page in a profile of its own. */
class ChromiumBrowser {
  /** @type {Map<string, {device: chromium.Device, page: chromium.Page}>} */
  #pages = new Map();

  async launch() {
    this.browser = await chromium.launchOnHost();
  }

  /** @param {Request} request */
  async open({page: name, url = '', options}) {
    if (!this.browser) throw new Error('not launched');
    const device = await chromium.Device.create(this.browser, new URL(url).origin, {ignoreHTTPSErrors: false});
    if (options?.allowErrors) device.allowError(/./);
    if (options?.relayOnly) await device.context.addInitScript(chromium.useRelaysOnly);
    await device.context.addInitScript(changeICE, options);
    const page = await device.open(url);
    this.#pages.set(name, {device, page});
  }

  /** @param {string} name */
  page(name) {
    const entry = this.#pages.get(name);
    if (!entry) throw new Error(`no page ${name}`);
    return entry.page;
  }

  /** @param {string} name */
  async close(name) {
    const entry = this.#pages.get(name);
    this.#pages.delete(name);
    await entry?.device.close();
  }
}

/** FirefoxBrowser opens all pages in one profile. */
class FirefoxBrowser {
  /** @type {Map<string, {page: firefox.Page, errors: string[]}>} */
  #pages = new Map();

  async launch() {
    this.browser = await firefox.launchOnHost(process.argv[3]);
  }

  /** @param {Request} request */
  async open({page: name, url = '', options}) {
    if (!this.browser) throw new Error('not launched');
    /** @type {string[]} */
    const errors = [];
    const script = /** @type {any} */ (`(${changeICE})(${JSON.stringify(options)})`);
    const page = await firefox.open(this.browser, url, errors, [script, ...options?.relayOnly ? [chromium.useRelaysOnly] : []]);
    this.#pages.set(name, {page, errors: options?.allowErrors ? [] : errors});
  }

  /** @param {string} name */
  page(name) {
    const entry = this.#pages.get(name);
    if (!entry) throw new Error(`no page ${name}`);
    return entry.page;
  }

  /** @param {string} name */
  async close(name) {
    const entry = this.#pages.get(name);
    this.#pages.delete(name);
    await entry?.page.close();
    if (entry && entry.errors.length > 0) throw new Error(`errors in the browser: ${entry.errors.join('; ')}`);
  }
}

/**
 * Runs in the page: changes its ICE servers.
 * @param {Options} [options]
 */
function changeICE({schemes, ice} = {}) {
  const win = /** @type {any} */ (window);
  const fetchOriginal = win.fetch.bind(win);
  win.fetch = async (/** @type {any} */ url, /** @type {any} */ init) => {
    if (new URL(url, location.href).pathname !== '/ice') return fetchOriginal(url, init);
    if (ice) return new Response(JSON.stringify(ice), {headers: {'Content-Type': 'application/json'}});
    const response = await fetchOriginal(url, init);
    if (!schemes || !response.ok) return response;
    const body = await response.json();
    for (const server of body.iceServers) {
      server.urls = [server.urls].flat().filter((/** @type {string} */ url) => schemes.includes(url.split(':')[0]));
    }
    body.iceServers = body.iceServers.filter((/** @type {any} */ server) => server.urls.length > 0);
    return new Response(JSON.stringify(body), {headers: {'Content-Type': 'application/json'}});
  };
}

/** Runs in the page: returns the selected pair of its newest connection. */
async function selectedPair() {
  const connection = /** @type {any} */ (window).connections.at(-1);
  const stats = new Map(/** @type {any} */ (await connection.getStats()));
  const all = [...stats.values()];
  const transport = all.find(entry => entry.type === 'transport' && entry.selectedCandidatePairId);
  const pair = stats.get(transport?.selectedCandidatePairId) ?? all.find(entry => entry.type === 'candidate-pair' && entry.selected);
  const local = stats.get(pair?.localCandidateId);
  const remote = stats.get(pair?.remoteCandidateId);
  return {local: local?.candidateType ?? '', remote: remote?.candidateType ?? '', protocol: local?.relayProtocol ?? ''};
}

/** Runs in the page: what its notice says, if it offers the self-test. */
function reason() {
  const text = (/** @type {string} */ selector) => document.querySelector(selector)?.textContent ?? '';
  const offersTest = document.querySelector('.status-actions a[href="test.html"]') !== null;
  return offersTest && {title: text('.status-title'), hint: text('.status-hint')};
}

/** Runs in the page: the results of the self-test by name, or false while it runs. */
function selfTestResults() {
  if (document.querySelector('#again')?.getAttribute('aria-disabled') !== 'false') return false;
  const items = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('#checks .check')]);
  return Object.fromEntries(items.map(item => [item.querySelector('.check-name')?.textContent, item.dataset.state]));
}

/**
 * Waits until a function returns a result in the page.
 * @param {any} page of Playwright or Puppeteer
 * @param {() => unknown} fn
 */
async function waitForResult(page, fn) {
  for (const deadline = Date.now() + 60_000; ;) {
    const result = await page.evaluate(fn);
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`timeout: the page shows ${await page.evaluate(() => document.body.innerText)}`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}

const kind = process.argv[2];
const browser = kind === 'firefox' ? new FirefoxBrowser() : new ChromiumBrowser();
/** The functions that both browsers have, for pages of their own type. @type {any} */
const pages = kind === 'firefox' ? firefox : chromium;
/** @type {(name: string) => any} */
const find = name => browser.page(name);

/** @type {Record<string, (request: Request) => Promise<unknown>>} */
const methods = {
  launch: () => browser.launch(),
  open: request => browser.open(request),
  link: ({page}) => pages.sharedLink(find(page)),
  start: ({page}) => pages.pressStart(find(page)),
  picture: ({page}) => pages.waitForPicture(find(page), 60_000),
  pair: ({page}) => find(page).evaluate(selectedPair),
  reason: ({page}) => waitForResult(find(page), reason),
  selfTest: ({page}) => waitForResult(find(page), selfTestResults),
  state: ({page}) => find(page).evaluate(chromium.decodedFrames),
  close: ({page}) => browser.close(page),
  quit: async () => { await browser.browser?.close(); },
};

for await (const line of createInterface({input: process.stdin})) {
  /** @type {Request} */
  const request = JSON.parse(line);
  void respond(request);
}
await browser.browser?.close(); // the other process has ended

/** @param {Request} request */
async function respond(request) {
  /** @type {{result?: unknown, error?: string}} */
  const response = {};
  try {
    response.result = await methods[request.method](request) ?? null;
  } catch (error) {
    response.error = String(error instanceof Error ? error.message : error);
  }
  process.stdout.write(JSON.stringify({id: request.id, ...response}) + '\n');
  if (request.method === 'quit') process.exit();
}
