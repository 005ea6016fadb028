/** Pages of another origin import the modules and exchange messages with them. */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {createServer} from 'node:http';
import {after, before, test} from 'node:test';
import {launch, skip} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {import('node:http').Server} */
let site;
let siteOrigin = '';

before(async () => {
  if (skip) return;
  browser = await launch();
  site = createServer((_request, response) => {
    // The strictest policy that a site can have for what it loads from others.
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>another site</title>');
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const address = site.address();
  assert.ok(address && typeof address === 'object');
  siteOrigin = `http://localhost:${address.port}`;
});

after(async () => {
  await browser?.close();
  site?.close();
});

/**
 * Opens the other site and calls use with its page and the origin of an inbox server.
 * @param {string[]} flags
 * @param {(page: import('../lib/browser.js').Page, origin: string) => Promise<void>} use
 */
async function visit(flags, use) {
  const server = new Server(flags);
  await server.start();
  const context = await browser.newContext({ignoreHTTPSErrors: true});
  try {
    const page = await context.newPage();
    await page.goto(siteOrigin);
    await use(page, server.origin);
  } finally {
    await context.close();
    await server.remove();
  }
}

/** Runs in the page. @param {string} origin */
async function exchange(origin) {
  const {Inbox} = await import(`${origin}/inbox.js`);
  const {Peer} = await import(`${origin}/peer.js`);
  const alice = new Inbox(`${origin}/inbox`, {name: 'alice', password: 'apple'});
  const bob = new Inbox(`${origin}/inbox`, {name: 'bob', password: 'banana'});
  const received = new Promise(resolve => alice.addEventListener('message', (/** @type {any} */ event) => resolve(event.detail)));
  alice.start();
  await bob.send('alice', {text: 'hello'}, {wait: 25}); // until Alice has claimed her mailbox
  const {from, data} = /** @type {any} */ (await received);
  alice.close();
  bob.close();
  return {from, text: data.text, peer: typeof Peer};
}

/** Runs in the page. @param {string} url */
const importError = url => import(url).then(() => '', error => String(error));

for (const flags of [() => ['-cors'], () => ['-cors-origins', `https://other.example,${siteOrigin}`]]) {
  test(`${flags().join(' ').replace(/,.*/, '')}: a page of an allowed origin exchanges a message`, {skip}, () =>
    visit(flags(), async (page, origin) => {
      assert.deepEqual(await page.evaluate(exchange, origin), {from: 'bob', text: 'hello', peer: 'function'});
    }));

  test(`${flags().join(' ').replace(/,.*/, '')}: each module can be imported, also when it is loaded again`, {skip}, () =>
    visit(flags(), async (page, origin) => {
      for (let load = 0; load < 2; load++) {
        for (const module of ['inbox.js', 'peer.js', 'codec.js', 'ice.js', 'room.js', 'seal.js', 'code-owner.js', 'code-joiner.js', 'third-party/uqr.js']) {
          assert.equal(await page.evaluate(importError, `${origin}/${module}`), '', `${module}, load ${load + 1}`);
        }
        await page.reload(); // which revalidates the modules
      }
    }));
}

for (const flags of [[], ['-cors-origins', 'https://other.example']]) {
  test(`${flags.join(' ') || 'no option'}: a page of another origin cannot import the modules`, {skip}, () =>
    visit(flags, async (page, origin) => {
      assert.match(await page.evaluate(importError, `${origin}/inbox.js`), /Failed to fetch/);
    }));
}

test('a page blocks scripts that turn text into HTML or code', {skip}, async () => {
  const server = new Server();
  await server.start();
  const context = await browser.newContext({ignoreHTTPSErrors: true});
  try {
    const page = await context.newPage();
    for (const path of ['/', '/send.html', '/receive.html', '/nothing']) {
      await page.goto(server.origin + path);
      assert.match(await page.evaluate(assignHTML), /TrustedHTML/, path);
    }
  } finally {
    await context.close();
    await server.remove();
  }
});

/** Runs in the page. */
function assignHTML() {
  try {
    document.body.innerHTML = '<p>text</p>';
    return '';
  } catch (error) {
    return String(error);
  }
}
