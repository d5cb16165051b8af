/** A new element with these properties, and these children: elements, or text. */
export function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
}

/** A button that does something when it is pressed. */
export function button(textContent, title, act) {
    const made = element("button", { type: "button", textContent, title });
    made.addEventListener("click", act);
    return made;
}

/** Add rules to the page, once under each name. */
export function addStyle(name, textContent) {
    const id = `liveavatar-${name}-style`;
    if (!document.getElementById(id)) document.head.append(element("style", { id, textContent }));
}
