/** The parts of the page. Each function or class shows a part of the status. */

import {Chart, bar} from './chart.js';
import {bitRate, count, date, memory, moment, percent, perSecond, plural, span, traffic} from './format.js';

/** @typedef {import('./status.js').Status} Status */
/** @typedef {import('./status.js').Certificate} Certificate */

/** The number of values of a full chart: 15 minutes. */
const capacity = 180;

/**
 * Returns an element. Text never becomes HTML.
 * @param {string} name
 * @param {string} className
 * @param {(Node | string)[]} children
 */
export function element(name, className, ...children) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

/**
 * Returns an element with a tone.
 * @param {string} tone
 * @param {string} className
 * @param {(Node | string)[]} children
 */
function toned(tone, className, ...children) {
  const e = element('span', className, ...children);
  e.dataset.tone = tone;
  return e;
}

/** What the protocols of other clients are called. @type {Record<string, string>} */
const protocolNames = {peerjs: 'PeerJS', topics: 'y-webrtc, Trystero'};

/**
 * Returns the facts above the tiles.
 * @param {Status} s
 */
export function facts(s) {
  const {restarts, process, connections, mailboxes, protocols, invitations} = s;
  /** @param {string} term @param {string} value @param {string} detail @param {string} [tone] */
  const fact = (term, value, detail, tone = '') => {
    const dd = element('dd', '', value);
    if (tone) dd.dataset.tone = tone;
    return element('div', 'fact', element('dt', '', term), dd, element('dd', 'fact-detail', detail));
  };
  return [
    fact('Running for', span(process.uptime_seconds), `since ${moment(new Date(process.started_at), new Date(s.time))}`),
    fact('Restarts', `${count(restarts.last_day)} in 24 hours`, `${count(restarts.last_week)} in 7 days`),
    restarts.loss
      ? fact('The last restart', 'lost mailboxes', restarts.loss, 'bad')
      : fact('The last restart kept', plural(restarts.restored_mailboxes, 'mailbox'), plural(restarts.restored_messages, 'message')),
    fact('Connections', count(connections.open), limit(connections.limit, count), share(connections.open, connections.limit)),
    fact('Queued', plural(mailboxes.queued_messages, 'message'), memory(mailboxes.queued_bytes), share(mailboxes.queued_bytes, mailboxes.queued_bytes_limit)),
    ...protocols.map(({protocol, open, frames_total}) =>
      fact(protocolNames[protocol] ?? protocol, plural(open, 'connection'), `${plural(frames_total, 'frame')} received`)),
    ...invitations ? [fact('Private', plural(invitations.valid, 'valid invitation'), `guest passes since the start: ${count(invitations.guest_passes_total)}`)] : [],
  ];
}

/**
 * Returns the tone of a value near its limit.
 * @param {number} value
 * @param {number} limit 0: none
 */
function share(value, limit) {
  return limit > 0 && value >= 0.8 * limit ? 'busy' : '';
}

/** Tile shows a value with its course. */
class Tile {
  #chart = new Chart(capacity);
  #value = element('p', 'tile-value');
  #unit = element('p', 'tile-unit');
  #peak = element('span', '');
  #name;

  /** @param {string} name */
  constructor(name) {
    this.#name = name;
    const axis = element('p', 'tile-axis', this.#peak, element('span', '', 'last 15 minutes'));
    this.element = element('div', 'card tile', element('h2', '', name), this.#value, this.#unit, this.#chart.element, axis);
  }

  /**
   * @param {string} value
   * @param {string} unit
   * @param {number[]} values
   * @param {(n: number) => string} format
   * @param {number} least
   * @param {string} tone
   */
  update(value, unit, values, format, least, tone = '') {
    this.#value.textContent = value;
    this.#value.dataset.tone = tone;
    this.#unit.textContent = unit;
    const peak = values.length > 1 ? `highest ${format(Math.max(...values))}` : 'no history yet';
    this.#peak.textContent = peak;
    this.#chart.update(values, `${this.#name} in the last 15 minutes: ${peak}, now ${value}`, least);
  }
}

/** Tiles are the values of the first row. */
export class Tiles {
  #messages = new Tile('Messages/s');
  #receivers = new Tile('Receivers');
  #mailboxes = new Tile('Mailboxes');
  #memory = new Tile('Memory');
  elements = [this.#messages, this.#receivers, this.#mailboxes, this.#memory].map(tile => tile.element);

  /** @param {Status} s */
  update({messages, receivers, mailboxes, process, history}) {
    this.#messages.update(perSecond(messages.per_second), `${count(messages.delivered_total)} total`, history.messages_per_second, perSecond, 1);
    this.#receivers.update(count(receivers.open), 'waiting', history.receivers, count, 4);
    this.#mailboxes.update(count(mailboxes.claimed), limit(mailboxes.limit, count), history.mailboxes, count, 4, share(mailboxes.claimed, mailboxes.limit));
    this.#memory.update(memory(process.memory_bytes), limit(process.memory_limit_bytes, memory), history.memory_bytes, memory, 1, share(process.memory_bytes, process.memory_limit_bytes));
  }
}

/**
 * @param {number} n
 * @param {(n: number) => string} format
 */
function limit(n, format) {
  return n > 0 ? `of ${format(n)}` : 'without a limit';
}

/** @param {Status} s */
export function certificates(s) {
  if (s.certificates.length === 0) return [element('p', 'empty', 'None: the server runs over plain HTTP.')];
  const now = new Date(s.time).getTime();
  /** @param {Certificate} c */
  const left = c => (c.last_error ? 0 : 1) * (c.not_after ? new Date(c.not_after).getTime() - now : 0);
  const rows = s.certificates.toSorted((a, b) => left(a) - left(b)).map(c => certificate(c, now));
  if (rows.length <= maxOpen) return rows;
  const more = rows.splice(maxOpen - 1);
  return [...rows, element('details', 'more', element('summary', '', `${count(more.length)} more names`), element('div', 'list', ...more))];
}

/** The number of certificates that are shown without a click. Those with problems come first. */
const maxOpen = 6;

/**
 * Returns a certificate with its life as a bar. The mark is the time of the renewal.
 * @param {Certificate} c
 * @param {number} now
 */
function certificate(c, now) {
  const {text, tone, passed, renewal} = life(c, now);
  const row = element('article', 'certificate', element('h3', '', c.name), toned(tone, 'certificate-life', text));
  if (c.not_after) row.append(bar(passed, tone, renewal));
  const details = [c.issuer || sources[c.source] || '', c.status];
  if (c.renew_at) {
    const seconds = (new Date(c.renew_at).getTime() - now) / 1000;
    details.push(seconds > 0 ? `renews in ${span(seconds)}, on ${date(new Date(c.renew_at))}` : 'renewal is due');
  }
  row.append(element('p', 'detail', details.filter(Boolean).join(' · ')));
  if (c.last_error) {
    const times = c.failures > 0 ? `${plural(c.failures, 'failed order')}, next one in ${untilNext(c, now)}: ` : '';
    row.append(element('p', 'certificate-error', times + c.last_error));
  }
  return row;
}

/** @type {Record<string, string>} */
const sources = {'self-signed': 'self-signed', file: 'from files', acme: 'from a CA'};

/**
 * @param {Certificate} c
 * @param {number} now
 */
function untilNext(c, now) {
  return span(c.next_attempt ? Math.max(0, new Date(c.next_attempt).getTime() - now) / 1000 : 0);
}

/**
 * @param {Certificate} c
 * @param {number} now
 */
function life(c, now) {
  if (!c.not_after || !c.not_before) return {text: 'no certificate', tone: 'bad', passed: 1, renewal: undefined};
  const [from, to] = [c.not_before, c.not_after].map(time => new Date(time).getTime());
  const length = Math.max(1, to - from); // the times of a file can be equal
  const passed = (now - from) / length;
  const tone = c.last_error || passed > 0.875 ? 'busy' : 'good';
  const renewal = c.renew_at ? (new Date(c.renew_at).getTime() - from) / length : undefined;
  const seconds = (to - now) / 1000;
  if (seconds <= 0) return {text: `ended ${span(seconds)} ago`, tone: 'bad', passed, renewal};
  return {text: `${span(seconds)} left`, tone, passed, renewal};
}

/** Relay shows TURN. */
export class Relay {
  #chart = new Chart(capacity);
  #figures = element('div', 'figures');
  #month = element('div', 'month');
  #peak = element('span', '');
  #off = element('p', 'empty', 'This server is no relay.');
  #on = element('div', '', this.#figures, this.#chart.element, element('p', 'tile-axis', this.#peak, element('span', '', 'last 15 minutes')), this.#month);
  elements = [this.#off, this.#on];

  /** @param {Status} s */
  update({turn, history}) {
    this.#off.hidden = turn !== null;
    this.#on.hidden = turn === null;
    if (!turn) return;
    this.#figures.replaceChildren(figure(bitRate(turn.bits_per_second), 'relayed'), figure(count(turn.allocations), 'open relays'), figure(count(turn.allocations_total), 'opened in all'));
    const peak = `highest ${bitRate(Math.max(0, ...history.turn_bits_per_second))}`;
    this.#peak.textContent = peak;
    this.#chart.update(history.turn_bits_per_second, `Relayed traffic in the last 15 minutes: ${peak}`, 1000);
    const ends = date(new Date(turn.month_ends_at));
    if (turn.month_limit_bytes === 0) {
      this.#month.replaceChildren(element('p', 'detail', `${traffic(turn.month_bytes)} this month, without a limit`));
      return;
    }
    const used = turn.month_bytes / turn.month_limit_bytes;
    this.#month.replaceChildren(
      element('p', 'month-text', `${percent(used)} of the month’s traffic`),
      bar(used, used >= 0.95 ? 'bad' : used >= 0.8 ? 'busy' : 'good'),
      element('p', 'detail', `${traffic(turn.month_bytes)} of ${traffic(turn.month_limit_bytes)}, until ${ends}`));
  }
}

/**
 * @param {string} value
 * @param {string} name
 */
function figure(value, name) {
  return element('p', 'figure', element('strong', '', value), element('span', '', name));
}

/** Refusals shows the refusals of all layers. */
export class Refusals {
  #chart = new Chart(capacity);
  #peak = element('span', '');
  chartElements = [this.#chart.element, element('p', 'tile-axis', this.#peak, element('span', '', 'last 15 minutes'))];

  /** @param {Status} s */
  update({history}) {
    const peak = `highest ${perSecond(Math.max(0, ...history.refusals_per_second))} per second`;
    this.#peak.textContent = peak;
    this.#chart.update(history.refusals_per_second, `Refusals in the last 15 minutes: ${peak}`, 1);
  }

  /**
   * Returns the table of the layers.
   * @param {Status} s
   */
  table(s) {
    const head = element('tr', '', ...['Layer', '15 min', 'Total'].map(title => {
      const th = element('th', '', title);
      th.setAttribute('scope', 'col');
      return th;
    }));
    const rows = s.refusals.map(layer => {
      const reasons = Object.entries(layer.reasons).toSorted(([a, n], [b, m]) => m - n || a.localeCompare(b)).slice(0, 3);
      const th = element('th', '', layer.title);
      th.setAttribute('scope', 'row');
      if (reasons.length > 0) th.append(element('span', 'reasons', ...reasons.flatMap(([reason, n]) => [element('span', '', `${reason} ${count(n)}`), ' '])));
      const recent = element('td', layer.last_15_minutes > 0 ? 'some' : 'none', count(layer.last_15_minutes));
      return element('tr', '', th, recent, element('td', layer.total > 0 ? '' : 'none', count(layer.total)));
    });
    return element('table', 'layers', element('thead', '', head), element('tbody', '', ...rows));
  }
}

/** @param {Status} s */
export function warnings(s) {
  if (s.warnings.length === 0) return [element('p', 'empty', 'None since the start.')];
  const now = new Date(s.time);
  return s.warnings.map(w => {
    const tone = w.level === 'ERROR' ? 'bad' : 'busy';
    const head = element('p', 'warning-head', element('time', '', moment(new Date(w.time), now)), toned(tone, 'level', w.level.toLowerCase()));
    if (w.count > 1) head.append(element('span', 'times', `${count(w.count)} times`));
    const row = element('article', 'warning', head, element('p', 'warning-text', w.message));
    if (w.attributes.length > 0) {
      row.append(element('dl', 'attributes', ...w.attributes.map(a => element('div', '', element('dt', '', a.name), element('dd', '', a.value || '""')))));
    }
    return row;
  });
}
