/**
 * y-webrtc and Trystero find their peers over /topics, on pages of other origins. TOPICS_ROUNDS is
 * how often each test runs; above 1, each browser uses both http and https, and documents are also
 * opened at the same moment.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {Server} from '../lib/server.js';
import {TopicsSite} from '../lib/topics-site.js';

const rounds = Number(process.env.TOPICS_ROUNDS ?? 1);
const site = new TopicsSite();

/**
 * Page is a page of Playwright or Puppeteer.
 * @typedef {{goto: (url: string) => Promise<unknown>, evaluate: (fn: any, ...args: any[]) => Promise<any>, close: () => Promise<void>}} Page
 */

before(() => site.start());
after(() => site.stop());

/** Runs in a page: calls a method of its script. @param {[string, ...unknown[]]} call */
function callPage([method, ...args]) {
  return /** @type {any} */ (window).page[method](...args);
}

/** @param {Page} page @param {[string, ...unknown[]]} call */
const call = (page, ...call) => page.evaluate(callPage, call);

/** Waits until a page has these lines. @param {Page} page @param {(lines: string[]) => boolean} done */
async function waitForLines(page, done, timeout = 60_000) {
  let lines = [];
  for (const deadline = Date.now() + timeout; Date.now() < deadline;) {
    lines = await call(page, 'lines');
    if (done(lines)) return;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  assert.fail(`timeout, the page has ${JSON.stringify(lines)}, its peers are ${await call(page, 'state')}`);
}

/** Waits until a page has announced itself in its room, or has lost the server. @param {Page} page */
async function waitForAnnouncement(page, want = true) {
  for (const deadline = Date.now() + 60_000; await call(page, 'announced') !== want;) {
    assert.ok(Date.now() < deadline, `timeout: announced is not ${want}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** @param {string[]} want */
const exactly = (...want) => (/** @type {string[]} */ lines) => JSON.stringify(lines) === JSON.stringify(want.sort());

const plain = ['-https=false'];
const setups = [
  {name: 'Chromium, https', browser: chromium, flags: []},
  {name: 'Firefox, http', browser: firefox, flags: plain},
  ...rounds === 1 ? [] : [
    {name: 'Chromium, http', browser: chromium, flags: plain},
    {name: 'Firefox, https', browser: firefox, flags: []},
  ],
];

for (const {name, browser: engine, flags} of setups) {
  test(name, {skip: engine.skip}, async t => {
    const server = new Server(['-compat', 'topics', ...flags]);
    const url = () => server.origin.replace('https:', flags.length ? 'ws:' : 'wss:') + '/topics';
    await server.start();
    const browser = await engine.launch();
    /** @type {Page[]} */
    let pages = [];
    const context = 'newContext' in browser ? await browser.newContext({ignoreHTTPSErrors: true}) : browser;

    /** Opens a page. Pages of other hosts share nothing in the browser. @param {string} path @param {string} host */
    const open = async (path, host) => {
      const page = /** @type {Page} */ (await context.newPage());
      pages.push(page);
      await page.goto(site.origin(`${host}.localhost`) + path);
      return page;
    };
    /** @param {string} title @param {(room: string) => Promise<void>} run */
    const step = (title, run) => t.test(title, async () => {
      for (let round = 1; round <= rounds; round++) {
        try {
          await run(`${title} ${round}`);
        } finally {
          await Promise.all(pages.map(page => page.close()));
          pages = [];
        }
      }
    });

    /**
     * Two documents converge. The second one is opened later: y-webrtc can lose both offers of two
     * peers that announce themselves at the same moment, see docs/y-webrtc.md.
     * @param {string} room @param {string} [password]
     */
    const converge = async (room, password) => {
      const [alice, bob] = await Promise.all([open('/yjs', 'alice'), open('/yjs', 'bob')]);
      await call(alice, 'join', room, url(), password);
      await waitForAnnouncement(alice);
      await call(bob, 'join', room, url(), password);
      await Promise.all([call(alice, 'write', 'from alice'), call(bob, 'write', 'from bob')]);
      for (const page of [alice, bob]) await waitForLines(page, exactly('from alice', 'from bob'));
    };
    await step('two documents converge', room => converge(room));
    await step('with a password', room => converge(room, 'secret'));
    await step('after a cut line, a newcomer is found', async room => {
      await converge(room);
      await server.stop('SIGKILL');
      for (const page of pages) await waitForAnnouncement(page, false);
      await server.start();
      for (const page of pages) await waitForAnnouncement(page);
      const carol = await open('/yjs', 'carol');
      await call(carol, 'join', room, url());
      await call(carol, 'write', 'from carol');
      for (const page of pages) await waitForLines(page, exactly('from alice', 'from bob', 'from carol'));
    });
    if (rounds > 1) {
      let reloads = 0;
      await step('opened at the same moment, they converge at the latest after a reload', async room => {
        const [alice, bob] = await Promise.all([open('/yjs', 'alice'), open('/yjs', 'bob')]);
        await Promise.all([alice, bob].map(page => call(page, 'join', room, url(), 'secret')));
        await Promise.all([call(alice, 'write', 'from alice'), call(bob, 'write', 'from bob')]);
        const both = () => Promise.all([alice, bob].map(page => waitForLines(page, exactly('from alice', 'from bob'), 10_000)));
        await both().catch(async () => {
          reloads++;
          await bob.goto(site.origin('bob.localhost') + '/yjs');
          await call(bob, 'join', room, url(), 'secret');
          await call(bob, 'write', 'from bob');
          await both();
        });
      });
      t.diagnostic(`opened at the same moment, ${reloads} of ${rounds} needed a reload`);
    }

    /**
     * All peers of a room meet. A page that has not met all is reloaded, as its user would do: in a
     * large room, Trystero sometimes loses a peer to another one, see docs/trystero.md.
     * @param {string} room @param {number} n @param {string} [password]
     */
    const meet = async (room, n, password) => {
      const peers = await Promise.all(Array.from({length: n}, (_, i) => open('/trystero', `peer${i}`)));
      const hasMetAll = (/** @type {string[]} */ lines) => lines.length >= n - 1;
      for (const peer of peers) await call(peer, 'join', room, url(), password);
      for (const [i, peer] of peers.entries()) {
        await waitForLines(peer, hasMetAll, 30_000).catch(async () => {
          t.diagnostic(`a page of a room of ${n} is reloaded`);
          await peer.goto(site.origin(`peer${i}.localhost`) + '/trystero');
          await call(peer, 'join', room, url(), password);
        });
      }
      for (const peer of peers) await waitForLines(peer, hasMetAll);
    };
    await step('a room of 3 meets', room => meet(room, 3, 'secret'));
    await step('a room of 8 meets', room => meet(room, 8));
    await step('after a cut line, a newcomer of the room is found', async room => {
      await meet(room, 2);
      await server.stop('SIGKILL');
      await server.start();
      const newcomer = await open('/trystero', 'newcomer');
      const id = await call(newcomer, 'join', room, url());
      await waitForLines(newcomer, lines => lines.length >= 2);
      for (const page of pages.filter(page => page !== newcomer)) {
        await waitForLines(page, lines => lines.some(line => line.startsWith(id)));
      }
    });

    await browser.close();
    await server.remove();
  });
}
