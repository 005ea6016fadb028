/**
 * Drives Chromium with a fake camera. A test fails on any console error, policy
 * violation or request to another origin.
 */

import {existsSync} from 'node:fs';
import assert from 'node:assert/strict';
import {chromium} from 'playwright-core';

export const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
  '--use-fake-device-for-media-stream=fps=10', '--use-fake-ui-for-media-stream',
];
/**
 * Features of the browser's own window. Each profile would load pages for the suggestions of its
 * address bar, which takes half of the processor time of a short test; the others connect to the
 * search engine. Playwright disables some of these, but only the last such flag counts.
 */
const windowFeatures = ['WebUIOmniboxPopup', 'WebUIOmniboxAimPopup', 'AimEnabled', 'PreconnectToSearch', 'OptimizationHints', 'MediaRouter', 'HttpsUpgrades', 'PaintHolding'];
/** ICE needs both if loopback is the only interface. */
const loopbackFlag = '--allow-loopback-in-peer-connection', loopbackFeature = 'WebRtcHideLocalIpsWithMdns';

/** @param {string[]} features */
export const withoutFeatures = (...features) => `--disable-features=${[...windowFeatures, ...features].join(',')}`;

/** Why the browser tests are skipped, or false. In CI they are never skipped. */
export const skip = existsSync(executablePath) || process.env.CI ? false :
  `Chromium not found at ${executablePath}: install it or set CHROMIUM`;

/**
 * @param {string[]} [overrides] flags that replace the defaults of the same name
 * @param {string} [program] runs the browser
 */
export function launch(overrides = [], program = executablePath) {
  const name = (/** @type {string} */ flag) => flag.split('=')[0];
  const kept = [...flags, loopbackFlag, withoutFeatures(loopbackFeature)].filter(flag => !overrides.some(other => name(other) === name(flag)));
  return chromium.launch({executablePath: program, args: [...kept, ...overrides]});
}

/** Launches a browser for a host with a network. */
export function launchOnHost() {
  return chromium.launch({executablePath, args: [...flags, withoutFeatures()]});
}

/**
 * @typedef {import('playwright-core').Page} Page
 * @typedef {import('playwright-core').Browser} Browser
 */

/** Device is one user's browser profile. It records errors. */
export class Device {
  /** @type {string[]} errors that fail the test */
  errors = [];
  /** Tests with network namespaces add interfaces to the machine, and Chromium then repeats its requests. @type {RegExp[]} */
  #allowed = [/ERR_NETWORK_CHANGED/];
  #origin;

  /**
   * @param {import('playwright-core').BrowserContext} context
   * @param {string} origin
   */
  constructor(context, origin) {
    this.context = context;
    this.#origin = origin;
    context.on('page', page => this.#watch(page));
  }

  /**
   * @param {Browser} browser
   * @param {string} origin
   * @param {import('playwright-core').BrowserContextOptions} [options]
   */
  static async create(browser, origin, options = {}) {
    // A small viewport without motion, because frames are rendered on the CPU.
    const context = await browser.newContext({ignoreHTTPSErrors: true, viewport: {width: 640, height: 480}, reducedMotion: 'reduce', ...options});
    await context.addInitScript(recordConnections);
    return new Device(context, origin);
  }

  /** Ignores console errors that the test causes on purpose. @param {RegExp} pattern */
  allowError(pattern) {
    this.#allowed.push(pattern);
  }

  /** @param {string} path */
  async open(path) {
    const page = await this.context.newPage();
    await page.goto(new URL(path, this.#origin).href);
    return page;
  }

  async close() {
    await this.context.close();
    assert.deepEqual(this.errors, [], 'errors in the browser');
  }

  /** @param {Page} page */
  #watch(page) {
    page.on('pageerror', error => this.errors.push(`error: ${error.stack}`));
    page.on('console', message => {
      const text = `${message.type()}: ${message.text()} ${message.location().url.split('?')[0]}`;
      if (!['error', 'warning'].includes(message.type())) return;
      if (!this.#allowed.some(pattern => pattern.test(text))) this.errors.push(text);
    });
    page.on('request', request => {
      const url = new URL(request.url());
      if (!['data:', 'blob:'].includes(url.protocol) && url.origin !== this.#origin) this.errors.push(`request to ${url.origin}`);
    });
  }
}

/** Runs in the page: records its peer connections for decodedFrames. */
export function recordConnections() {
  const win = /** @type {any} */ (window);
  win.connections = [];
  const Original = win.RTCPeerConnection;
  win.RTCPeerConnection = class extends Original {
    /** @param {any[]} args */
    constructor(...args) {
      super(...args);
      win.connections.push(this);
    }
  };
}

/** Runs in the page: makes its peer connections use TURN servers only. */
export function useRelaysOnly() {
  const win = /** @type {any} */ (window);
  const Original = win.RTCPeerConnection;
  win.RTCPeerConnection = class extends Original {
    /** @param {RTCConfiguration} configuration */
    constructor(configuration) {
      super({...configuration, iceTransportPolicy: 'relay'});
    }

    /** @param {RTCConfiguration} configuration */
    setConfiguration(configuration) {
      super.setConfiguration({...configuration, iceTransportPolicy: 'relay'});
    }
  };
}

/** Runs in the page: whether the selected path of its newest connection has a relay at both ends. */
export async function isRelayed() {
  const report = await /** @type {any} */ (window).connections.at(-1).getStats();
  const transport = [...report.values()].find(({type}) => type === 'transport');
  const pair = report.get(transport.selectedCandidatePairId);
  return [pair.localCandidateId, pair.remoteCandidateId].every(id => report.get(id).candidateType === 'relay');
}

/** Runs in the page: returns the ICE username fragment of the remote peer, which changes when ICE restarts. */
export function remoteUfrag() {
  const {sdp} = /** @type {any} */ (window).connections.at(-1).remoteDescription;
  return /a=ice-ufrag:(.*)/.exec(sdp)?.[1];
}

/**
 * Waits until ICE has restarted within the same call.
 * @param {{evaluate: (fn: () => any) => Promise<any>}} page of Playwright or Puppeteer
 * @param {string | undefined} ufrag the result of remoteUfrag before
 */
export async function waitForRestart(page, ufrag) {
  const deadline = Date.now() + 60_000;
  while (await page.evaluate(remoteUfrag) === ufrag) {
    assert.ok(Date.now() < deadline, 'timeout: ICE was not restarted');
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  assert.equal(await page.evaluate(() => /** @type {any} */ (window).connections.length), 1, 'peer connections');
}

/**
 * Returns the link for the other device, as this browser opens it: the one that a page
 * shows can have an address of the network.
 * @param {Page} page
 */
export async function sharedLink(page) {
  return await page.locator('.share-open').getAttribute('href') ?? '';
}

/** @param {Page} page */
export async function pressStart(page) {
  await page.getByRole('button', {name: 'Start'}).click();
}

/**
 * Waits until the title of the notice contains a text.
 * @param {Page} page
 * @param {string} title
 */
export async function waitForTitle(page, title, timeout = 60_000) {
  await page.locator('.status-title', {hasText: title}).waitFor({timeout}).catch(async () => {
    assert.fail(`got the notice «${await page.locator('.status-title').textContent()}», want «${title}»`);
  });
}

/**
 * Waits until a page shows a text.
 * @param {Page} page
 * @param {string} text
 */
export async function waitForText(page, text) {
  await page.getByText(text, {exact: true}).filter({visible: true}).first().waitFor();
}

/**
 * Waits until the newest connection of a page shows moving video: the number of
 * decoded frames increases.
 * @param {Page} page
 */
export async function waitForPicture(page, timeout = 60_000) {
  const deadline = Date.now() + timeout;
  let first = NaN;
  let last = {frames: 0, connection: ''};
  while (Date.now() < deadline) {
    last = await page.evaluate(decodedFrames);
    if (last.connection === 'connected' && Number.isNaN(first) && last.frames > 0) first = last.frames;
    if (last.frames > first + 5) return last.frames;
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  const title = await page.locator('.status-title').textContent();
  assert.fail(`no moving picture after ${timeout} ms: ${JSON.stringify(last)}, the notice is «${title}»`);
}

/** Runs in the page: returns the state and the decoded frames of its newest connection that is not closed. */
export async function decodedFrames() {
  const open = /** @type {any} */ (window).connections.filter((/** @type {any} */ {connectionState}) => connectionState !== 'closed');
  const connection = open.at(-1); // the page closes those of its probes
  if (!connection) return {frames: 0, connection: 'none'};
  let frames = 0;
  for (const entry of (await connection.getStats()).values()) {
    if (entry.type === 'inbound-rtp' && entry.kind === 'video') frames = entry.framesDecoded;
  }
  const video = /** @type {HTMLVideoElement | null} */ (document.querySelector('#picture'));
  return {frames: video && video.videoWidth > 0 ? frames : 0, connection: connection.connectionState};
}
