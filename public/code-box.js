/**
 * The code box of a page: the short code of this device, a field for the code of
 * the other device, and the digits that people compare. code-pairing.js has the
 * state, code-view.js says what to show.
 */

import {CodePairing} from './code-pairing.js';
import {codeView} from './code-view.js';
import {formatCode} from './code.js';
import {button, create, setText} from './dom.js';
import * as strings from './strings.js';

const texts = strings.pairing;
/** Milliseconds before a button that lets a device in can be pressed: longer than a double click. */
const GUARD_TIME = 500;
/** Part of the screen by which the box can be outside of it and count as seen. */
const MARGIN = '25%';

/**
 * @typedef {import('./code-view.js').Action} Action
 * @typedef {import('./code-view.js').Panel} Panel
 * @typedef {import('./code-view.js').OwnCode} OwnCode
 * @typedef {Omit<import('./code-pairing.js').Options, 'base'> & {onJoined?: (url: string) => void}} Options
 *   onJoined opens the room of another device, instead of a navigation to it
 */

/** CodeBox fills an element. It closes when the page closes. */
export class CodeBox {
  #pairing;
  #root;
  #own = new OwnCodeView();
  #form;
  #panel;
  #active = true;
  #displayed = false;

  /**
   * @param {HTMLElement} root
   * @param {Options} options
   */
  constructor(root, {onJoined = url => location.assign(url), ...options}) {
    this.#root = root;
    this.#pairing = new CodePairing({...options, base: document.baseURI});
    this.#form = new CodeForm(options.page, {enter: text => this.#pairing.enter(text), edit: () => this.#pairing.clearError()});
    this.#panel = new ExchangePanel(name => this.#act(name));
    root.replaceChildren(...(options.link ? [this.#own.element] : []), this.#form.element, this.#panel.element);
    if (isSecureContext) this.#start(onJoined);
    else this.#form.disable(texts.insecure);
  }

  /** @param {(url: string) => void} onJoined */
  #start(onJoined) {
    this.#pairing.addEventListener('change', () => this.#render());
    this.#pairing.addEventListener('joined', event => onJoined(/** @type {CustomEvent} */ (event).detail));
    addEventListener('pagehide', () => this.#pairing.close());
    document.addEventListener('visibilitychange', () => this.#update());
    new IntersectionObserver(entries => this.#onIntersection(entries), {rootMargin: MARGIN}).observe(this.#root);
    this.#render();
  }

  /**
   * Sets whether codes are used, which a connected call does not need: without them,
   * no requests are sent.
   * @param {boolean} active
   */
  setActive(active) {
    this.#active = active;
    this.#update();
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #onIntersection(entries) {
    const {isIntersecting} = entries[entries.length - 1];
    // A box that was scrolled out of view is still displayed.
    this.#displayed = isIntersecting || (this.#displayed && this.#root.getClientRects().length > 0);
    this.#update();
  }

  #update() {
    const seen = this.#displayed && document.visibilityState === 'visible';
    this.#pairing.setVisible(seen);
    this.#pairing.setActive(this.#active && (this.#displayed || !this.#pairing.owner));
  }

  /** @param {import('./code-view.js').ActionName} name */
  #act(name) {
    if (name === 'differ') this.#pairing.cancel('differ');
    else void this.#pairing[name]();
  }

  #render() {
    const {panel, own, error} = codeView(this.#pairing);
    const hadFocus = this.#root.contains(document.activeElement);
    this.#root.classList.toggle('code-box-busy', Boolean(panel));
    this.#own.render(own, panel !== null, name => this.#act(name));
    this.#form.render(error, panel !== null);
    const isNew = this.#panel.render(panel);
    if (isNew) this.#root.scrollIntoView({block: 'nearest'});
    if (hadFocus && isNew) this.#panel.focus();
    else if (hadFocus && !panel && !this.#root.contains(document.activeElement)) this.#form.focus();
  }
}

/** The code of this device. */
class OwnCodeView {
  #code = create('span', {'class': 'code-text', 'aria-hidden': 'true'});
  #spelled = create('span', {class: 'visually-hidden code-spelled'});
  #text = create('p', {class: 'code-hint'});
  #countdown = new Countdown();
  #actions = create('div', {class: 'code-actions'});
  element = create('div', {class: 'code-own'},
    create('p', {class: 'field-label'}, texts.own),
    create('p', {class: 'code-value'}, this.#code, this.#spelled),
    this.#text, this.#countdown.element, this.#actions);

  /**
   * @param {OwnCode | null} own
   * @param {boolean} hidden
   * @param {(name: import('./code-view.js').ActionName) => void} act
   */
  render(own, hidden, act) {
    this.element.hidden = hidden || !own;
    if (!own) return;
    this.element.classList.toggle('code-own-empty', !own.code);
    setText(this.#code, own.code ? formatCode(own.code) : '··· ···');
    setText(this.#spelled, spell(own.code));
    setText(this.#text, own.text);
    this.#countdown.show(own.until);
    showActions(this.#actions, own.actions, act);
  }
}

/** The field for the code of the other device. */
class CodeForm {
  #input;
  #button = create('button', {type: 'submit', class: 'button button-quiet'}, texts.enter);
  #error;
  element;

  /**
   * @param {string} page which makes the identifiers of the elements unique
   * @param {{enter: (text: string) => void, edit: () => void}} handlers
   */
  constructor(page, {enter, edit}) {
    const id = `code-of-${page}`;
    this.#input = create('input', {
      id, 'class': 'code-input', 'type': 'text', 'placeholder': texts.placeholder, 'maxlength': 40, 'autocomplete': 'off', 'autocapitalize': 'characters',
      'autocorrect': 'off', 'spellcheck': 'false', 'enterkeyhint': 'go', 'dir': 'ltr', 'aria-describedby': `${id}-error`,
    });
    this.#error = create('p', {'id': `${id}-error`, 'class': 'code-error', 'role': 'status'});
    this.element = create('form', {class: 'code-form', novalidate: true},
      create('label', {class: 'field-label', for: id}, texts.field),
      create('div', {class: 'code-row'}, this.#input, this.#button),
      this.#error);
    this.element.addEventListener('submit', event => {
      event.preventDefault();
      enter(this.#input.value);
    });
    this.#input.addEventListener('input', edit);
  }

  /**
   * @param {string} error
   * @param {boolean} hidden
   */
  render(error, hidden) {
    const failed = error !== '' && this.#error.textContent !== error;
    this.element.hidden = hidden;
    setText(this.#error, error);
    if (error) this.#input.setAttribute('aria-invalid', 'true');
    else this.#input.removeAttribute('aria-invalid');
    if (failed) this.#input.select();
  }

  /** @param {string} reason */
  disable(reason) {
    this.#input.disabled = this.#button.disabled = true;
    setText(this.#error, reason);
  }

  focus() {
    this.#input.focus();
    this.#input.select();
  }
}

/** An exchange: what happens, the digits and the buttons. */
class ExchangePanel {
  #title = create('h2', {class: 'code-title', tabindex: '-1'});
  #digits = create('span', {'class': 'code-digits', 'aria-hidden': 'true', 'dir': 'ltr'});
  #spelled = create('span', {class: 'visually-hidden'});
  #text = create('p', {class: 'code-hint'});
  #countdown = new Countdown();
  #actions = create('div', {class: 'code-actions'});
  #shown = '';
  element = create('div', {class: 'code-panel'},
    create('div', {role: 'status'}, this.#title, create('p', {class: 'code-value'}, this.#digits, this.#spelled), this.#text),
    this.#countdown.element, this.#actions);
  #act;

  /** @param {(name: import('./code-view.js').ActionName) => void} act */
  constructor(act) {
    this.#act = act;
  }

  /**
   * Returns whether the panel is new.
   * @param {Panel | null} panel
   */
  render(panel) {
    const wasShown = this.#shown;
    this.#shown = panel?.title ?? '';
    this.element.classList.toggle('code-panel-hidden', !panel);
    setText(this.#title, panel?.title ?? '');
    setText(this.#digits, panel?.digits ?? '');
    setText(this.#spelled, spell(panel?.digits ?? ''));
    setText(this.#text, panel?.text ?? '');
    this.#countdown.show(panel?.until);
    showActions(this.#actions, panel?.actions ?? [], this.#act);
    return this.#shown !== '' && this.#shown !== wasShown;
  }

  focus() {
    this.#title.focus();
  }
}

/** Seconds until the next attempt. Screen readers do not announce them. */
class Countdown {
  element = create('p', {'class': 'code-countdown', 'aria-hidden': 'true'});
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /** @param {number} [until] */
  show(until = 0) {
    clearInterval(this.#timer);
    this.#update(until);
    if (until > Date.now()) this.#timer = setInterval(() => this.#update(until), 500);
  }

  /** @param {number} until */
  #update(until) {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    setText(this.element, seconds > 0 ? texts.countdown({seconds}) : '');
    if (seconds <= 0) clearInterval(this.#timer);
  }
}

/**
 * Shows buttons. Buttons that do not change keep the focus.
 * @param {HTMLElement} element
 * @param {Action[]} actions
 * @param {(name: import('./code-view.js').ActionName) => void} act
 */
function showActions(element, actions, act) {
  const names = actions.map(({name}) => name).join();
  if (element.dataset.actions === names) return;
  element.dataset.actions = names;
  element.replaceChildren(...actions.map(({name, label, main, risky}) => {
    const created = button(label, () => act(name), main ? {class: 'button button-main'} : {});
    if (risky) guard(created);
    return created;
  }));
}

/** Keeps a button from being pressed by accident. @param {HTMLButtonElement} created */
function guard(created) {
  created.disabled = true;
  setTimeout(() => (created.disabled = false), GUARD_TIME);
}

/** Returns characters so that a screen reader reads them one by one. @param {string} characters */
function spell(characters) {
  return [...characters].join(', ');
}
