/** Tests inbox.js with each transport in Chromium and Firefox, and the choice between them. */

import assert from 'node:assert/strict';
import {after, afterEach, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {ReverseProxy} from '../lib/reverse-proxy.js';
import {Server} from '../lib/server.js';

/**
 * @typedef {import('../../../public/transports.js').Transport} Transport
 * @typedef {{goto: (url: string) => Promise<unknown>, evaluate: (fn: any, arg?: any) => Promise<any>, close: () => Promise<void>}} Page
 *   of Playwright or Puppeteer
 * @typedef {{id: string, from: string, data: unknown}} Message
 */

/** Milliseconds that a test waits for something. */
const TIMEOUT = 100_000; // longer than the time in which a transport that failed is not tried
/** @type {Exclude<Transport, 'poll'>[]} */
const streams = ['websocket', 'stream'];

/** @type {Server} */
let server;
/** @type {Server} */
let plainServer;
/** @type {chromium.Browser} */
let chromiumBrowser;
/** @type {firefox.Browser} */
let firefoxBrowser;
/** @type {import('playwright-core').BrowserContext} */
let context;
/** @type {Page[]} */
let pages = [];

const skip = chromium.skip || firefox.skip;

before(async () => {
  if (skip) return;
  [server, plainServer] = [new Server(), new Server(['-https=false', '-trusted-proxies', '127.0.0.1'])];
  await Promise.all([server.start(), plainServer.start()]);
  [chromiumBrowser, firefoxBrowser] = await Promise.all([chromium.launch(), firefox.launch()]);
  context = await chromiumBrowser.newContext({ignoreHTTPSErrors: true});
});

afterEach(async () => {
  await Promise.allSettled(pages.map(page => page.close()));
  pages = [];
});

after(async () => {
  await Promise.allSettled([chromiumBrowser?.close(), firefoxBrowser?.close()]);
  await Promise.all([server?.remove(), plainServer?.remove()]);
});

/** The browsers, and how each opens a page. @type {Record<string, () => Promise<Page>>} */
const browsers = {
  Chromium: () => context.newPage(),
  Firefox: () => firefoxBrowser.newPage(),
};

/** Opens a page of a server. @param {string} browser @param {string} origin */
async function openPage(browser, origin) {
  const page = await browsers[browser]();
  pages.push(page);
  await page.goto(`${origin}/robots.txt`);
  return page;
}

/** A name that no other test has. */
const unique = () => `peer ü${Math.random()}`;

/**
 * Runs in the page: opens an inbox, and records what it does.
 * @param {{name: string, transports: string[]}} options
 */
async function openInbox({name, transports}) {
  const {StreamInbox: Inbox} = await import(`${location.origin}/stream-inbox.js`);
  const inbox = new Inbox(`${location.origin}/inbox`, {name, password: `of ${name}`, transports});
  /** @type {{messages: any[], events: string[]}} */
  const log = {messages: [], events: []};
  inbox.addEventListener('message', (/** @type {any} */ {detail: {id, from, data}}) => {
    log.messages.push({id, from, data: data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data});
  });
  for (const type of ['transport', 'superseded', 'connection']) inbox.addEventListener(type, (/** @type {any} */ event) => log.events.push(event.detail));
  Object.assign(window, {inbox, log});
  return inbox.start();
}

/** Runs in the page: the messages and events so far. */
const readLog = () => ({.../** @type {any} */ (window).log, transport: /** @type {any} */ (window).inbox.transport, status: /** @type {any} */ (window).inbox.status});

/**
 * Waits until a page has logged what a test wants.
 * @param {Page} page
 * @param {string} what
 * @param {(log: {messages: Message[], events: string[], transport: Transport, status: string}) => boolean} isReached
 */
async function until(page, what, isReached) {
  let log = await page.evaluate(readLog);
  for (const deadline = Date.now() + TIMEOUT; !isReached(log); log = await page.evaluate(readLog)) {
    const {events, transport, status} = log;
    assert.ok(Date.now() < deadline, `timeout: ${what}; got ${log.messages.length} messages, ${JSON.stringify({events, transport, status})}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  return log;
}

/** @param {Page} page @param {Transport} transport */
const untilTransport = (page, transport) => until(page, `the transport ${transport}`, log => log.transport === transport);

/**
 * Runs in the page: sends the numbers from `first`, each when the one before it is stored.
 * @param {{to: string, first: number, count: number}} options
 */
async function sendNumbers({to, first, count}) {
  for (let n = first; n < first + count; n++) await /** @type {any} */ (window).inbox.send(to, {n}, {wait: 60});
}

/**
 * Checks that all numbers have arrived in order. One can arrive twice, with another ID, if its
 * answer was lost.
 * @param {Message[]} messages
 * @param {number} count
 * @param {boolean} [once] whether each arrives once
 */
function checkNumbers(messages, count, once = true) {
  const numbers = messages.map(({data}) => /** @type {{n: number}} */ (data).n);
  const distinct = numbers.filter((n, i) => numbers.indexOf(n) === i);
  assert.deepEqual(distinct, Array.from({length: count}, (_, n) => n));
  assert.equal(new Set(messages.map(({id}) => id)).size, messages.length, 'no ID twice');
  if (once) assert.equal(numbers.length, count);
}

for (const browser of Object.keys(browsers)) {
  for (const transport of /** @type {Transport[]} */ ([...streams, 'poll'])) {
    test(`${browser}, ${transport}: messages of all kinds, both ways and in order`, {skip}, async () => {
      const [ann, ben] = await Promise.all([openPage(browser, server.origin), openPage(browser, server.origin)]);
      const [annName, benName] = [unique(), unique()];
      const transports = transport === 'poll' ? [] : [transport];
      assert.ok(await ann.evaluate(openInbox, {name: annName, transports}));
      assert.ok(await ben.evaluate(openInbox, {name: benName, transports: streams}));
      await untilTransport(ann, transport);
      await untilTransport(ben, 'websocket');
      await Promise.all([ann.evaluate(sendNumbers, {to: benName, first: 0, count: 100}), ben.evaluate(sendNumbers, {to: annName, first: 0, count: 100})]);
      for (const page of [ann, ben]) checkNumbers((await until(page, 'all numbers', log => log.messages.length >= 100)).messages, 100);
      await ben.evaluate(async (/** @type {string} */ to) => {
        const {inbox} = /** @type {any} */ (window);
        for (const data of ['', 'é \n\r\0', new Uint8Array([0, 255, 32]), new Blob(['x'])]) await inbox.send(to, data);
        await inbox.send(to, 'y'.repeat(500_000));
      }, annName);
      const {messages} = await until(ann, 'the other kinds', log => log.messages.length >= 105);
      assert.deepEqual(messages.slice(100, 104).map((/** @type {Message} */ {from, data}) => [from, data]),
        ['', 'é \n\r\0', [0, 255, 32], [120]].map(data => [benName, data]));
      assert.equal(/** @type {string} */ (messages[104].data).length, 500_000);
      await assert.rejects(ann.evaluate(() => /** @type {any} */ (window).inbox.send('nobody at all', 'x')), /not claimed|has to ask/i);
    });

    test(`${browser}, ${transport}: of two tabs the newer one receives`, {skip}, async () => {
      const [first, second] = await Promise.all([openPage(browser, server.origin), openPage(browser, server.origin)]);
      const options = {name: unique(), transports: transport === 'poll' ? [] : [transport]};
      await first.evaluate(openInbox, options);
      await untilTransport(first, transport);
      await second.evaluate(openInbox, options);
      await until(first, 'superseded', log => log.status === 'superseded' && log.events.includes('replaced'));
      await untilTransport(second, transport);
      await second.evaluate(sendNumbers, {to: options.name, first: 0, count: 5});
      await until(second, 'all numbers', log => log.messages.length === 5);
      await first.evaluate(() => /** @type {any} */ (window).inbox.start());
      await until(second, 'superseded', log => log.status === 'superseded' && log.events.includes('replaced'));
      await untilTransport(first, transport);
    });
  }

  test(`${browser}: no message is lost when the server restarts`, {skip}, async () => {
    const restarted = new Server();
    await restarted.start();
    try {
      const [ann, ben] = await Promise.all([openPage(browser, restarted.origin), openPage(browser, restarted.origin)]);
      const [annName, benName] = [unique(), unique()];
      await ann.evaluate(openInbox, {name: annName, transports: streams});
      await ben.evaluate(openInbox, {name: benName, transports: ['stream']});
      for (const page of [ann, ben]) await page.evaluate(() => { /** @type {any} */ (window).inbox.maxRetryDelay = 500; });
      await untilTransport(ann, 'websocket');
      await untilTransport(ben, 'stream');
      for (let round = 0; round < 3; round++) {
        const numbers = {first: 100 * round, count: 100};
        const sent = [ann.evaluate(sendNumbers, {to: benName, ...numbers}), ben.evaluate(sendNumbers, {to: annName, ...numbers})];
        await until(ben, 'the first numbers of a round', log => log.messages.length >= 100 * round + 20);
        await restarted.stop();
        await restarted.start();
        await Promise.all(sent);
      }
      for (const page of [ann, ben]) {
        const {messages} = await until(page, 'all numbers', log => new Set(log.messages.map(({data}) => JSON.stringify(data))).size >= 300);
        checkNumbers(messages, 300, false);
      }
      await untilTransport(ann, 'websocket');
      await untilTransport(ben, 'stream');
    } finally {
      await restarted.remove();
    }
  });

  for (const [name, webSockets, buffers, want] of /** @type {[string, 'forward'|'refuse'|'ignore', boolean, Transport][]} */ ([
    ['forwards all', 'forward', false, 'websocket'], ['refuses WebSockets', 'refuse', false, 'stream'],
    ['never answers WebSockets', 'ignore', false, 'stream'], ['refuses WebSockets and collects responses', 'refuse', true, 'poll'],
  ])) {
    test(`${browser}: a proxy that ${name}: ${want}`, {skip}, async () => {
      const proxy = new ReverseProxy(plainServer.origin.replace('https:', 'http:'));
      Object.assign(proxy, {webSockets, buffers});
      await proxy.start();
      try {
        const page = await openPage(browser, proxy.origin);
        const name = unique();
        await page.evaluate(openInbox, {name, transports: streams});
        await page.evaluate(sendNumbers, {to: name, first: 0, count: 10});
        await until(page, 'messages from the beginning', log => log.messages.length === 10);
        if (want === 'poll') await new Promise(resolve => setTimeout(resolve, 9_000)); // both were tried
        await untilTransport(page, want);
        await page.evaluate(sendNumbers, {to: name, first: 10, count: 10});
        checkNumbers((await until(page, 'messages to the end', log => log.messages.length === 20)).messages, 20);
        const {events} = await page.evaluate(readLog);
        assert.deepEqual(events, want === 'poll' ? [] : [want]);
        assert.equal(proxy.requests.filter(line => /^GET .*resume=1$/.test(line)).length, want === 'websocket' ? 0 : 1, 'event streams');
      } finally {
        await Promise.allSettled(pages.map(one => one.close())); // before the proxy, whose end is an error
        proxy.stop();
      }
    });
  }
}

for (const transport of /** @type {Transport[]} */ ([...streams, 'poll'])) {
  test(`Chromium, ${transport}: offline and online`, {skip}, async () => {
    const [annContext, page] = [await chromiumBrowser.newContext({ignoreHTTPSErrors: true}), await openPage('Chromium', server.origin)];
    try {
      const ann = await annContext.newPage();
      await ann.goto(`${server.origin}/robots.txt`);
      const [annName, benName] = [unique(), unique()];
      await ann.evaluate(openInbox, {name: annName, transports: transport === 'poll' ? [] : [transport]});
      await page.evaluate(openInbox, {name: benName, transports: streams});
      await untilTransport(ann, transport);
      for (let round = 0; round < 3; round++) {
        await annContext.setOffline(true);
        const sent = [
          page.evaluate(sendNumbers, {to: annName, first: 10 * round, count: 10}), ann.evaluate(sendNumbers, {to: benName, first: 10 * round, count: 10}),
        ];
        await until(ann, 'lost', log => log.events.filter(event => event === 'lost').length > round);
        await annContext.setOffline(false);
        await Promise.all(sent);
      }
      for (const peer of [ann, page]) {
        const {messages} = await until(peer, 'all numbers', log => new Set(log.messages.map(({data}) => JSON.stringify(data))).size >= 30);
        checkNumbers(messages, 30, false);
      }
      await untilTransport(ann, transport);
    } finally {
      await annContext.close();
    }
  });
}
