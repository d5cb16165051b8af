import { element } from "../elements.js";

const MOST_LINES = 200;

/** What was said, line by line, as text. */
export class Transcript {
    #hearing = null; // the line of what is being said to the avatar
    #saying = null; // that of the avatar's answer,
    #turn = null; // and which answer that is

    constructor() {
        this.element = element("div", { className: "transcript", tabIndex: 0, role: "log", ariaLabel: "Conversation" });
    }

    clear() {
        this.element.replaceChildren();
        this.#hearing = this.#saying = null;
    }

    /** What the avatar has understood. Until it is `final` it replaces what came before; an empty text takes it back. */
    heard(text, final) {
        if (!text) {
            this.#hearing?.remove();
            this.#hearing = null;
            return;
        }
        this.#hearing ??= this.#line("you");
        this.#write(this.#hearing, text);
        this.#hearing.classList.toggle("unsure", !final);
        if (final) this.#hearing = this.#saying = null;
    }

    /** A further part of the avatar's answer number `turn`. */
    said(text, turn) {
        if (!this.#saying || turn !== this.#turn) this.#saying = this.#line("avatar");
        this.#turn = turn;
        this.#saying.dataset.turn = turn;
        const before = this.#saying.textContent;
        this.#write(this.#saying, before && text && !/^\s/.test(text) ? `${before} ${text}` : before + text);
    }

    /** How long the answer number `turn` took: seconds by part, some of them null. It is the tooltip of what was said. */
    timed(turn, parts) {
        const line = [...this.element.querySelectorAll(".avatar")].findLast(({ dataset }) => dataset.turn === `${turn}`);
        const known = Object.entries(parts).filter(([, seconds]) => typeof seconds === "number");
        if (line) line.title = known.map(([part, seconds]) => `${part} ${seconds.toFixed(2)} s`).join(", ");
    }

    /** The answer was cut off. */
    interrupted() {
        this.#saying?.classList.add("cut");
        this.#saying = null;
    }

    /** Something that neither has said. */
    note(text) {
        this.#write(this.#line("note"), text);
    }

    #line(className) {
        const line = element("p", { className });
        this.element.append(line);
        while (this.element.children.length > MOST_LINES) this.element.firstChild.remove();
        return line;
    }

    #write(line, text) {
        const { scrollTop, scrollHeight, clientHeight } = this.element;
        const atEnd = scrollHeight - scrollTop - clientHeight < 40; // somebody who reads further up is left there
        line.textContent = text;
        if (atEnd) this.element.scrollTop = this.element.scrollHeight;
    }
}
