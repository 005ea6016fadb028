/** Tests the pages behind proxies that respond instead of the server, or abort requests that wait. */

import assert from 'node:assert/strict';
import {after, afterEach, before, beforeEach, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, useRelaysOnly, waitForPicture, waitForTitle} from '../lib/browser.js';
import {ReverseProxy, isMailbox} from '../lib/reverse-proxy.js';
import {Server} from '../lib/server.js';

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {ReverseProxy} */
let proxy;
/** @type {Device} */
let ann;
/** @type {Device} */
let ben;

before(async () => {
  if (skip) return;
  server = new Server(['-https=false', '-trusted-proxies', '127.0.0.1']);
  await server.start();
  browser = await launch();
});

beforeEach(async () => {
  if (skip) return;
  proxy = new ReverseProxy(server.origin.replace('https:', 'http:'));
  await proxy.start();
  ann = await Device.create(browser, proxy.origin);
  ben = await Device.create(browser, proxy.origin);
  for (const device of [ann, ben]) device.allowError(/403 .*\/addresses/); // not for clients of a proxy
});

afterEach(async () => {
  await Promise.allSettled([ann?.context.close(), ben?.context.close()]); // before the proxy, whose end is an error
  proxy?.stop();
  await ann?.close();
  await ben?.close();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

/** Connects a camera of Ben to a screen of Ann. @param {import('../lib/browser.js').Page} screen */
async function call(screen) {
  await waitForTitle(screen, 'Waiting for the camera');
  const camera = await ben.open(await sharedLink(screen));
  await pressStart(camera);
  await waitForPicture(screen);
}

test('a proxy asks for a login for the mailbox: the page names the proxy, and continues without it', {skip}, async () => {
  ann.allowError(/status of 401/);
  proxy.intercept = (request, response) => {
    if (!isMailbox(request)) return false;
    response.writeHead(401, {'WWW-Authenticate': 'Basic realm="staff"', 'Content-Type': 'text/html'}).end('<h1>401 Authorization Required</h1>');
    return true;
  };
  const screen = await ann.open('/receive.html');
  await waitForTitle(screen, 'A proxy in front of the server asks for a login');
  proxy.intercept = () => false;
  await call(screen);
});

for (const [name, respond] of /** @type {[string, (response: import('../lib/reverse-proxy.js').Response) => void][]} */ ([
  ['a page', response => response.writeHead(200, {'Content-Type': 'text/html'}).end('<!doctype html><title>Sign in</title>')],
  ['a redirect', response => response.writeHead(302, {Location: '/login'}).end()],
])) {
  test(`${name} in place of the server's response: the page says so, backs off, and continues`, {skip}, async () => {
    let followed = 0;
    proxy.intercept = (request, response) => {
      if (request.url === '/login') followed++;
      if (!isMailbox(request)) return false;
      respond(response);
      return true;
    };
    const screen = await ann.open('/receive.html');
    await waitForTitle(screen, 'Another page answers instead of the server');
    const started = Date.now();
    const before = proxy.requests.length;
    await new Promise(resolve => setTimeout(resolve, 3_000)); // no event marks the absence of requests
    const rate = (proxy.requests.length - before) / ((Date.now() - started) / 1000);
    assert.ok(rate < 4, `got ${rate} requests per second`);
    assert.equal(followed, 0, 'requests that follow the redirect');
    await waitForTitle(screen, 'Another page answers instead of the server');
    proxy.intercept = () => false;
    await call(screen);
  });
}

test('a service worker answers with a page: the page says so and backs off', {skip}, async () => {
  proxy.intercept = ({url}, response) => {
    if (url === '/app') response.writeHead(200, {'Content-Type': 'text/html'}).end('<!doctype html><title>app</title>');
    if (url !== '/worker.js') return url === '/app';
    response.writeHead(200, {'Content-Type': 'text/javascript'}).end(`
      addEventListener('install', () => skipWaiting());
      addEventListener('activate', event => event.waitUntil(clients.claim()));
      addEventListener('fetch', event => {
        if (new URL(event.request.url).pathname !== '/inbox') return;
        event.respondWith(new Response('<!doctype html><title>app</title>', {headers: {'Content-Type': 'text/html'}}));
      });`);
    return true;
  };
  const start = await ann.open('/app');
  await start.evaluate(async () => {
    await navigator.serviceWorker.register('/worker.js');
    await navigator.serviceWorker.ready;
  });
  const screen = await ann.open('/receive.html');
  let requests = 0;
  screen.on('request', request => new URL(request.url()).pathname === '/inbox' && requests++);
  await waitForTitle(screen, 'Another page answers instead of the server');
  assert.ok(requests < 20, `got ${requests} requests`);
});

/** Runs in the page: records the tones of the notice. */
function recordTones() {
  const status = /** @type {HTMLElement} */ (document.querySelector('.status'));
  const tones = /** @type {any} */ (window).tones = [status.dataset.tone];
  new MutationObserver(() => tones.push(status.dataset.tone)).observe(status, {attributes: true, attributeFilter: ['data-tone']});
}

test('a proxy aborts requests that wait: the pages ask for shorter waits, without an error', {skip}, async () => {
  ann.allowError(/status of 504/);
  ben.allowError(/status of 504/);
  for (const device of [ann, ben]) device.allowError(/WebSocket connection .* failed/);
  Object.assign(proxy, {timeout: 3_500, webSockets: 'refuse', buffers: true});
  const screen = await ann.open('/receive.html');
  await waitForTitle(screen, 'Waiting for the camera');
  await screen.evaluate(recordTones);
  const shortened = () => proxy.requests.filter(line => line.startsWith('GET /inbox') && line.endsWith('wait=2')).length;
  const deadline = Date.now() + 60_000;
  while (shortened() < 3) {
    assert.ok(Date.now() < deadline, `timeout: got the requests ${proxy.requests}`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  await call(screen);
  const tones = await screen.evaluate(() => /** @type {any} */ (window).tones);
  assert.ok(!tones.includes('bad'), `got the tones ${tones}`);
});

test('the server lists invalid ICE servers: the call is made without them, and the console says so', {skip}, async () => {
  ann.allowError(/Invalid or excess ICE/);
  ben.allowError(/Invalid or excess ICE/);
  proxy.intercept = ({url}, response) => {
    if (url !== '/ice') return false;
    response.writeHead(200, {'Content-Type': 'application/json'})
      .end('{"iceServers": [{"urls": ["stun:h:99999"]}, {"urls": "turn:h?foo", "username": "u", "credential": "secret"}, null, {"urls": 5}]}');
    return true;
  };
  const screen = await ann.open('/receive.html');
  const warned = screen.waitForEvent('console', message => message.type() === 'warning');
  await call(screen);
  assert.match((await warned).text(), /stun:h:99999, turn:h\?foo/);
});

test('the relay traffic of the month is used up: the pages say so while they connect', {skip}, async () => {
  for (const device of [ann, ben]) await device.context.addInitScript(useRelaysOnly);
  proxy.intercept = ({url}, response) => {
    if (url !== '/ice') return false;
    response.writeHead(200, {'Content-Type': 'application/json'}).end('{"iceServers": [], "turn": "month-used"}');
    return true;
  };
  const screen = await ann.open('/receive.html');
  await waitForTitle(screen, 'Waiting for the camera');
  const camera = await ben.open(await sharedLink(screen));
  await pressStart(camera);
  for (const page of [camera, screen]) await page.getByText('The server has used up its relay traffic of this month').waitFor();
});
