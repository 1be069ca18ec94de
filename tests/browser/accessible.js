// Run in a page by test_accessible.py: an object of functions.
({
  channels(text) {
    const [r, g, b, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return [r, g, b, alpha];
  },
  over(top, under) {
    return [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  },
  // relative luminance and contrast, WCAG 2.2
  luminance(colour) {
    const [r, g, b] = colour.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  },
  ratio(one, other) {
    const [high, low] = [this.luminance(one), this.luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  },
  behind(element) {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(this.channels(getComputedStyle(e).backgroundColor));
    }
    return layers.reduce((under, top) => this.over(top, under), [255, 255, 255, 1]);
  },
  // text that is too weak for its size: [text, class, ratio]
  weakText() {
    const skipped = ".visually-hidden,script,style,option,datalist,noscript,:disabled,svg";
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const weak = [];
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.textContent.trim();
      if (!text || element.closest(skipped)) continue;
      if (!element.checkVisibility({ visibilityProperty: true })) continue;
      const style = getComputedStyle(element);
      const under = this.behind(element);
      const found = this.ratio(this.over(this.channels(style.color), under), under);
      const size = parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (found < (isLarge ? 3 : 4.5)) weak.push([text.slice(0, 30), element.className, found]);
    }
    return weak;
  },
  letterContrast() {
    const paper = this.behind(document.querySelector(".panel"));
    return [...document.querySelectorAll(".logo path")].map((path) =>
      this.ratio(this.channels(getComputedStyle(path).fill), paper),
    );
  },
  nameless() {
    const acting = "button,a[href],input,select,textarea,summary,canvas,[role=img]";
    return [...document.querySelectorAll(acting)]
      .filter((e) => e.checkVisibility())
      .filter(
        (e) =>
          !(
            e.getAttribute("aria-label") ||
            e.textContent.trim() ||
            e.title ||
            (e.labels && e.labels.length)
          ),
      )
      .map((e) => e.outerHTML.slice(0, 120));
  },
});
