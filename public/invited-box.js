/** The invitation to a private server, on the start page. */

import {invitation, invitationOf, isCutOff, isInvitation, keepInvitation} from './access.js';
import {button, create} from './dom.js';
import * as strings from './strings.js';

const texts = strings.home;

/** InvitedBox keeps the invitation of a link, and fills an element, which is hidden without one. */
export class InvitedBox {
  #root;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    addEventListener('hashchange', () => this.#open());
    this.#open();
  }

  #open() {
    const token = invitationOf(location.hash);
    if (token !== undefined) history.replaceState(null, '', location.pathname + location.search);
    if (token !== undefined && !isInvitation(token)) return this.#show(isCutOff(token) ? texts.incompleteInvitation : texts.badInvitation);
    if (token && !keepInvitation(token)) return this.#show(texts.invitationNotKept);
    if (invitation()) this.#showKept();
  }

  #showKept() {
    this.#show(texts.invited, texts.invitedHint, button(texts.removeInvitation, () => this.#remove()));
  }

  #remove() {
    const token = invitation();
    keepInvitation('');
    const undo = button(texts.undo, () => {
      keepInvitation(token);
      this.#showKept();
      this.#root.querySelector('button')?.focus();
    });
    this.#show(texts.invitationRemoved, '', undo);
    undo.focus();
  }

  /**
   * @param {string} text
   * @param {string} [hint]
   * @param {(HTMLElement)[]} controls
   */
  #show(text, hint = '', ...controls) {
    const paragraph = create('p', {role: 'status'}, create('strong', {}, text), ` ${hint}`);
    this.#root.replaceChildren(paragraph, ...controls);
    this.#root.hidden = false;
  }
}
