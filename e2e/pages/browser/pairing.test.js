/** Pairs Chromium and Firefox by a short code, and exchanges an encrypted signal, over the real server. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {Server} from '../lib/server.js';

const skip = firefox.skip || chromium.skip;
const link = 'https://inbox.example/receive.html#id.secret';

/** @typedef {{goto: (url: string) => Promise<unknown>, evaluate: (script: any, value?: any) => Promise<any>}} Page the part that both drivers have */

/** @type {Server} */
let server;
/** @type {firefox.Browser} */
let firefoxBrowser;
/** @type {chromium.Browser} */
let chromiumBrowser;
/** @type {Record<string, Page>} */
const pages = {};

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  [firefoxBrowser, chromiumBrowser] = await Promise.all([firefox.launch(), chromium.launch()]);
  const context = await chromiumBrowser.newContext({ignoreHTTPSErrors: true});
  pages.Chromium = await context.newPage();
  pages.Firefox = await firefoxBrowser.newPage();
  for (const page of Object.values(pages)) await page.goto(`${server.origin}/`);
});

after(async () => {
  await Promise.all([firefoxBrowser?.close(), chromiumBrowser?.close()]);
  await server?.remove();
});

/** Runs in the page and returns the code. @param {string} origin */
async function showCode(origin) {
  const {Inbox} = await import(`${origin}/inbox.js`);
  const {CodeOwner} = await import(`${origin}/code-owner.js`);
  const owner = new CodeOwner((/** @type {any} */ credentials) => new Inbox(`${origin}/inbox`, credentials));
  /** @type {any} */ (window).pairing = owner;
  owner.renew();
  while (owner.state !== 'waiting') await new Promise(resolve => owner.addEventListener('state', resolve, {once: true}));
  return owner.code;
}

/** Runs in the page and returns the first state. @param {{origin: string, text: string}} entered text is what a person enters */
async function enterCode({origin, text}) {
  const {Inbox} = await import(`${origin}/inbox.js`);
  const {parseCode} = await import(`${origin}/code.js`);
  const {CodeJoiner} = await import(`${origin}/code-joiner.js`);
  const joiner = new CodeJoiner((/** @type {any} */ credentials) => new Inbox(`${origin}/inbox`, credentials), parseCode(text));
  /** @type {any} */ (window).pairing = joiner;
  joiner.start();
  await new Promise(resolve => joiner.addEventListener('state', resolve, {once: true}));
  return joiner.state;
}

/** Runs in the page and returns the digits. @param {string} state */
async function untilState(state) {
  const {pairing} = /** @type {any} */ (window);
  while (pairing.state !== state) await new Promise(resolve => pairing.addEventListener('state', resolve, {once: true}));
  return pairing.digits;
}

/** Runs in the page: waits until the mailbox of a code is released. @param {{origin: string, code: string}} used */
async function untilReleased({origin, code}) {
  const {Inbox} = await import(`${origin}/inbox.js`);
  const {codeMailbox} = await import(`${origin}/code.js`);
  const probe = new Inbox(`${origin}/inbox`, {name: 'probe', password: 'probe'});
  const knock = () => probe.send(codeMailbox(code), {kind: 'probe'}).then(() => '', (/** @type {any} */ error) => error.code);
  while (await knock() !== 'no-inbox') await new Promise(resolve => setTimeout(resolve, 50));
  probe.close();
}

for (const [ownerName, joinerName] of [['Chromium', 'Firefox'], ['Firefox', 'Chromium']]) {
  test(`${joinerName} enters the code of ${ownerName}`, {skip}, async () => {
    const [owner, joiner] = [pages[ownerName], pages[joinerName]];
    const code = await owner.evaluate(showCode, server.origin);
    const text = `${code.slice(0, 3)}-${code.slice(3)}`.toLowerCase();
    assert.equal(await joiner.evaluate(enterCode, {origin: server.origin, text}), 'asked');
    const digits = await joiner.evaluate(untilState, 'asked');
    assert.match(digits, /^\d{4}$/);
    assert.equal(await owner.evaluate(untilState, 'asked'), digits);
    await joiner.evaluate(() => /** @type {any} */ (window).pairing.confirm());
    await owner.evaluate((/** @type {string} */ link) => /** @type {any} */ (window).pairing.letIn(link), link);
    await joiner.evaluate(untilState, 'let-in');
    assert.equal(await joiner.evaluate(() => /** @type {any} */ (window).pairing.link), link);
    await joiner.evaluate(untilReleased, {origin: server.origin, code}); // the owner does not wait for it
    assert.equal(await joiner.evaluate(enterCode, {origin: server.origin, text}), 'wrong-code', 'the code is used');
  });
}

/** Runs in the page, and returns the envelope of a signal. @param {string} origin */
async function sealSignal(origin) {
  const {Sealer} = await import(`${origin}/seal.js`);
  const sealer = await Sealer.create('secret', 'room');
  return sealer.seal({call: 'c', n: 1, description: {type: 'offer', sdp: 'v=0'}}, {from: 'a', to: 'b', call: 'c', direction: 'send'});
}

/** Runs in the page, and returns the signal. @param {{origin: string, envelope: unknown}} sealed */
async function openSignal({origin, envelope}) {
  const {Sealer} = await import(`${origin}/seal.js`);
  const sealer = await Sealer.create('secret', 'room');
  return sealer.open(envelope, {from: 'a', to: 'b', call: 'c', direction: 'send'});
}

test('each browser opens what the other has sealed', {skip}, async () => {
  for (const [from, to] of [['Chromium', 'Firefox'], ['Firefox', 'Chromium']]) {
    const envelope = await pages[from].evaluate(sealSignal, server.origin);
    const signal = await pages[to].evaluate(openSignal, {origin: server.origin, envelope});
    assert.deepEqual(signal, {call: 'c', n: 1, description: {type: 'offer', sdp: 'v=0'}});
  }
});
