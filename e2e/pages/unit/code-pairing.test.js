/** Tests code-pairing.js and code-view.js: two devices on an in-memory server, and what they show. */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {test} from 'node:test';
import {CodePairing, resolveLink} from '../../../public/code-pairing.js';
import {codeView} from '../../../public/code-view.js';
import {KeyExchange} from '../../../public/key-exchange.js';
import * as strings from '../../../public/strings.js';
import {advance, onCleanup, openInbox} from '../lib/inboxes.js';
import {MailboxServer} from '../lib/mailboxes.js';

const fragment = `#${'i'.repeat(22)}.${'s'.repeat(22)}`;
const texts = strings.pairing;

/** Device is a page with a code box, without the box. */
class Device {
  /** @type {string[]} the links that it opened */
  opened = [];

  /**
   * @param {MailboxServer} server
   * @param {'call'|'send'|'receive'|'home'} page
   * @param {string} [linkPage] the page of its link, '' if it shows no code
   */
  constructor(server, page, linkPage = page === 'home' ? '' : page) {
    this.pairing = new CodePairing({
      createInbox: credentials => openInbox('http://localhost/inbox', {...credentials, fetch: server.fetch}),
      page,
      base: `https://here.example/pages/${page}.html#old`,
      link: linkPage ? () => `https://192.168.1.20:3000/${linkPage}.html${fragment}` : undefined,
    });
    this.pairing.addEventListener('joined', event => this.opened.push(/** @type {CustomEvent} */ (event).detail));
    onCleanup(() => this.pairing.close());
    this.pairing.setVisible(true);
  }

  /** @returns {any} */
  get view() {
    return codeView(this.pairing);
  }

  /** Waits until the view satisfies a condition. @param {(view: any) => unknown} condition */
  async until(condition) {
    while (!condition(this.view)) await once(this.pairing, 'change');
    return this.view;
  }

  /** Waits until the panel has a title. @param {{title: string}} panel */
  untilPanel({title}) {
    return this.until(view => view.panel?.title === title);
  }

  async code() {
    return (await this.until(view => view.own?.code)).own.code;
  }
}

/** @param {any} view */
const actionsOf = view => view.panel.actions.map((/** @type {any} */ action) => action.name);
/** @param {MailboxServer} server @param {string} prefix */
const mailboxes = (server, prefix) => [...server.mailboxes.keys()].filter(name => name.startsWith(prefix));
/** @param {() => boolean} condition */
async function until(condition) {
  while (!condition()) await new Promise(resolve => setImmediate(resolve));
}

test('a device that enters the code of another one opens its room', async () => {
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
  joiner.pairing.enter(` ${(await owner.code()).toLowerCase().slice(0, 3)}-${(await owner.code()).slice(3)} `);
  const [shown, asked] = await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
  assert.match(shown.panel.digits, /^\d{4}$/);
  assert.equal(shown.panel.digits, asked.panel.digits);
  assert.deepEqual([actionsOf(shown), actionsOf(asked)], [['letIn', 'refuse'], ['confirm', 'differ']]);
  joiner.pairing.confirm();
  assert.deepEqual(actionsOf(joiner.view), ['cancel']);
  assert.equal(joiner.view.panel.digits, asked.panel.digits, 'the digits stay while the other user decides');
  await owner.pairing.letIn();
  await joiner.untilPanel(texts.opening);
  assert.deepEqual(joiner.opened, [`https://here.example/pages/call.html${fragment}`]);
  assert.equal(owner.view.panel.title, texts.let.title);
});

test('buttons that let a device in are protected from a press by accident', async () => {
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
  joiner.pairing.enter(await owner.code());
  const views = await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
  for (const {panel} of views) assert.deepEqual(panel.actions.map((/** @type {any} */ {risky}) => Boolean(risky)), [true, false]);
});

test('nothing is sent before the user can see the code', async () => {
  const server = new MailboxServer();
  const pairing = new CodePairing({createInbox: () => assert.fail('a mailbox'), page: 'call', base: 'https://here.example/call.html', link: () => ''});
  pairing.setActive(false);
  pairing.setActive(true);
  assert.deepEqual(codeView(pairing).own?.code, '');
  const device = new Device(server, 'call');
  await device.code();
  device.pairing.setVisible(false);
  assert.equal(mailboxes(server, 'code-').length, 1, 'the user can have written the code down');
});

test('a connected call needs no code', async () => {
  const server = new MailboxServer();
  const device = new Device(server, 'call');
  const code = await device.code();
  device.pairing.setActive(false);
  assert.equal(device.view.own.code, '');
  await until(() => server.mailboxes.size === 0);
  device.pairing.setActive(true);
  assert.notEqual(await device.code(), code);
});

test('a code is renewed after use, unless the call has connected', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
  const code = await owner.code();
  joiner.pairing.enter(code);
  await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
  await owner.pairing.letIn();
  await advance(t, 20);
  assert.notEqual(await owner.code(), code);
});

test('the code of a page that is not visible is not renewed', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const device = new Device(server, 'call');
  const code = await device.code();
  device.pairing.setVisible(false);
  await advance(t, 601);
  assert.deepEqual([device.view.own.code, server.mailboxes.size], ['', 0]);
  device.pairing.setVisible(true);
  assert.notEqual(await device.code(), code);
});

test('what is no code of another device is not sent', async () => {
  const server = new MailboxServer();
  const device = new Device(server, 'call');
  const own = await device.code();
  for (const [text, error] of [['', 'malformed'], ['ABC 23O', 'malformed'], [own.toLowerCase(), 'own-code']]) {
    device.pairing.enter(text);
    assert.equal(device.view.error, texts.errors[/** @type {keyof typeof texts.errors} */ (error)]);
    assert.equal(device.view.panel, null);
  }
  device.pairing.clearError();
  assert.equal(device.view.error, '');
  assert.deepEqual([server.sent, mailboxes(server, 'join-')], [[], []]);
});

test('a wrong code is an error, and this device shows its own code again', async () => {
  const server = new MailboxServer();
  const device = new Device(server, 'call');
  const own = await device.code();
  device.pairing.enter(own === '234567' ? '234568' : '234567');
  assert.deepEqual(actionsOf(device.view), ['cancel']);
  const {own: {code}} = await device.until(view => view.error === texts.errors['wrong-code']);
  assert.equal(code, own);
});

test('a refusal, and the next code', async () => {
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
  const code = await owner.code();
  joiner.pairing.enter(code);
  await owner.untilPanel(texts.asked);
  owner.pairing.refuse();
  await joiner.until(view => view.error === texts.errors.refused);
  assert.notEqual(await owner.code(), code);
});

test('digits that differ: the owner asks its user before it shows another code', async () => {
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
  joiner.pairing.enter(await owner.code());
  await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
  joiner.pairing.cancel('differ');
  assert.equal(joiner.view.error, texts.errors.differ);
  const {panel, own} = await owner.untilPanel(texts.interrupted);
  assert.deepEqual([panel.text, own.code], [texts.interruptions.left, '']);
  owner.pairing.setVisible(false);
  owner.pairing.setActive(false);
  owner.pairing.setActive(true);
  owner.pairing.setVisible(true);
  assert.equal(owner.view.panel.title, texts.interrupted.title, 'only a press makes a new code');
  owner.pairing.renew();
  await owner.code();
});

test('a busy owner', async () => {
  const server = new MailboxServer();
  const [owner, first, second] = [new Device(server, 'call'), new Device(server, 'home'), new Device(server, 'home')];
  const code = await owner.code();
  first.pairing.enter(code);
  await owner.untilPanel(texts.asked);
  second.pairing.enter(code);
  await second.until(view => view.error === texts.errors.busy);
  assert.equal(owner.view.panel.title, texts.asked.title);
});

test('two devices that enter the code of each other at the same time meet', async () => {
  for (let round = 0; round < 5; round++) {
    const server = new MailboxServer();
    const devices = [new Device(server, 'call'), new Device(server, 'call')];
    const [one, two] = await Promise.all(devices.map(device => device.code()));
    devices[0].pairing.enter(two);
    devices[1].pairing.enter(one);
    const [owner, joiner] = one < two ? devices : [...devices].reverse();
    await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
    assert.equal(owner.view.panel.digits, joiner.view.panel.digits);
    joiner.pairing.confirm();
    await owner.pairing.letIn();
    await joiner.untilPanel(texts.opening);
    assert.deepEqual([owner.opened, joiner.opened.length], [[], 1]);
  }
});

test('the other role is required, and a page with the same role is offered', async () => {
  const server = new MailboxServer();
  for (const [page, linkPage, automatic] of /** @type {const} */ ([['send', 'send', true], ['send', 'receive', false], ['call', 'send', false]])) {
    const [owner, joiner] = [new Device(server, 'receive', linkPage), new Device(server, page)];
    joiner.pairing.enter(await owner.code());
    await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
    joiner.pairing.confirm();
    await owner.pairing.letIn();
    const url = `https://here.example/pages/${linkPage}.html${fragment}`;
    if (!automatic) {
      await joiner.untilPanel(texts.otherPage[linkPage]);
      assert.deepEqual([joiner.opened, actionsOf(joiner.view)], [[], ['openOtherPage', 'cancel']]);
      joiner.pairing.openOtherPage();
    }
    await joiner.untilPanel(texts.opening);
    assert.deepEqual(joiner.opened, [url]);
  }
});

test('a link is rebuilt for this server, or refused', () => {
  const base = 'https://here.example/pages/?x#y';
  for (const [link, want] of [
    [`https://evil.example/a/b/call.html${fragment}`, `https://here.example/pages/call.html${fragment}`],
    [`http://192.168.1.20:3000/receive.html?a=b${fragment}`, `https://here.example/pages/receive.html${fragment}`],
    [`javascript:alert(1)//call.html${fragment}`, `https://here.example/pages/call.html${fragment}`],
    ['https://here.example/call.html', null],
    ['https://here.example/call.html#', null],
    [`https://here.example/call.html${fragment}x`, null],
    [`https://here.example/${fragment}`, null],
    [`https://here.example/test.html${fragment}`, null],
    [`https://here.example/call.html.evil${fragment}`, null],
    [`https://here.example/recall.html${fragment}`, null],
    ['call.html', null],
    ['', null],
  ]) {
    assert.equal(resolveLink(String(link), base)?.url ?? null, want, String(link));
  }
});

test('a link of another kind is an error', async () => {
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call', 'index'), new Device(server, 'home')];
  joiner.pairing.enter(await owner.code());
  await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
  joiner.pairing.confirm();
  await owner.pairing.letIn();
  await joiner.until(view => view.error === texts.errors['invalid-link']);
  assert.deepEqual(joiner.opened, []);
});

test('an attacker in the middle makes the screens show different digits', async () => {
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
  const code = await owner.code();
  /** @type {Record<string, KeyExchange>} */
  const attacker = {};
  server.intercept = async ({from, data}) => {
    const names = {owner: `code-${code}`, joiner: mailboxes(server, 'join-')[0]};
    if (data.kind === 'join') return {...data, digits: '0000', commitment: await (attacker.joiner = await KeyExchange.create(names)).commitment};
    if (data.kind === 'key') return {...data, digits: '0000', key: (attacker.owner = await KeyExchange.create(names)).publicKey};
    if (data.kind === 'reveal') return {...data, digits: '0000', key: attacker.joiner.publicKey};
    assert.ok(from);
    return data;
  };
  joiner.pairing.enter(code);
  const [{panel: shown}, {panel: asked}] = await Promise.all([owner.untilPanel(texts.asked), joiner.untilPanel(texts.compare)]);
  assert.notEqual(shown.digits, asked.digits, 'equal with a probability of 1 in 10,000');
});

test('texts of the other side are never shown', async () => {
  for (const reason of ['enter-it-anyway', 'constructor', '<b>1234</b>', {toString: 1}]) {
    const server = new MailboxServer();
    const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
    server.intercept = ({from, to, data}) => data.kind === 'join' ? server.inject(to, from, {v: 1, kind: 'end', reason, digits: '1234'}) && undefined : data;
    joiner.pairing.enter(await owner.code());
    const {error} = await joiner.until(view => view.error);
    assert.ok([texts.failed, texts.errors.left].includes(error), error);
  }
});

test('a limit is shown with a countdown, and the exchange then continues', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const [owner, joiner] = [new Device(server, 'call'), new Device(server, 'home')];
  const code = await owner.code();
  const {fetch} = server;
  let limited = 1;
  server.fetch = (resource, options) => options?.method === 'POST' && limited-- > 0
    ? Promise.resolve(Response.json({type: 'urn:inbox:problem:rate-limited', title: 'slow'}, {status: 429, headers: {'Retry-After': '7', 'Content-Type': 'application/problem+json'}}))
    : fetch(resource, options);
  joiner.pairing.close();
  const late = new Device(server, 'home');
  late.pairing.enter(code);
  const {panel} = await late.until(view => view.panel?.until);
  assert.equal(panel.text, texts.limited);
  assert.ok(panel.until - Date.now() >= 7_000, `in ${panel.until - Date.now()} ms`);
  await advance(t, 10);
  await late.untilPanel(texts.compare);
});
