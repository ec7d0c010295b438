//! Recursive descent from tokens to the syntax tree.

use super::ast::{
    Guard, Init, Instruction, Linkage, Location, Number, Operand, PtxFunction, StateSpace,
    Statement, SyntaxTree, Type, Variable,
};
use super::error::{LoadError, LoadErrorKind};
use super::lexer::{Pos, Token, syntax, tokenize};

/// Blocks and initialisers may nest this deep; deeper text is refused, not recursed into.
const MAX_DEPTH: u32 = 200;

/// Parses a module. `name` is used in errors.
///
/// # Errors
/// [`LoadError`] with the line and column of the first thing that isn't PTX.
pub fn parse(text: &str, name: &str) -> Result<SyntaxTree, LoadError> {
    let tokens = tokenize(text, name)?;
    Parser {
        tokens: &tokens,
        at: 0,
        name,
        depth: 0,
        lists: false,
    }
    .module()
}

struct Parser<'t, 'a> {
    tokens: &'t [(Token<'a>, Pos)],
    at: usize,
    name: &'t str,
    depth: u32,
    /// Whether parentheses hold operands (of a call) or an expression.
    lists: bool,
}

type Result<T, E = LoadError> = std::result::Result<T, E>;

impl<'a> Parser<'_, 'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn peek_at(&self, ahead: usize) -> Token<'a> {
        self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].0
    }

    fn pos(&self) -> Pos {
        self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(syntax(self.name, self.pos(), message))
    }

    fn unsupported<T>(&self, at: Pos, message: impl Into<String>) -> Result<T> {
        Err(LoadError {
            kind: LoadErrorKind::Unsupported,
            ..syntax(self.name, at, message)
        })
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        self.error(format!("expected {what}, found {}", self.peek()))
    }

    fn eat(&mut self, c: u8) -> bool {
        let hit = self.peek() == Token::Punct(c);
        if hit {
            self.next();
        }
        hit
    }

    fn expect(&mut self, c: u8) -> Result<()> {
        if self.eat(c) {
            Ok(())
        } else {
            self.expected(&format!("`{}`", c as char))
        }
    }

    fn eat_dot(&mut self, word: &str) -> bool {
        let hit = self.peek() == Token::Dot(word);
        if hit {
            self.next();
        }
        hit
    }

    fn ident(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Ident(s) => {
                self.next();
                Ok(s)
            }
            _ => self.expected(what),
        }
    }

    fn unsigned(&mut self, what: &str) -> Result<u64> {
        match self.peek() {
            Token::Int(v, _) => {
                self.next();
                Ok(v)
            }
            _ => self.expected(what),
        }
    }

    fn small(&mut self, what: &str) -> Result<u32> {
        let at = self.pos();
        let value = self.unsigned(what)?;
        u32::try_from(value)
            .map_err(|_| syntax(self.name, at, format!("{what} {value} is too large")))
    }

    fn module(&mut self) -> Result<SyntaxTree> {
        let mut tree = SyntaxTree::default();
        if !self.eat_dot("version") {
            return self.expected("`.version` as the first directive");
        }
        tree.version = match self.next() {
            Token::F64(v) if (1.0..100.0).contains(&v) => (v * 10.0).round() as u32,
            Token::Int(v, _) if v < 100 => v as u32 * 10,
            _ => return self.error("expected a version number such as 8.8"),
        };
        loop {
            let at = self.pos();
            match self.peek() {
                Token::End => break,
                Token::Punct(b';') => {
                    self.next();
                }
                Token::Dot("target") => {
                    self.next();
                    tree.target = self.ident("a target such as sm_86")?.to_owned();
                    while self.eat(b',') {
                        self.ident("a target option")?;
                    }
                }
                Token::Dot("address_size") => {
                    self.next();
                    if self.unsigned("an address size")? != 64 {
                        return self.unsupported(
                            at,
                            "only 64-bit addresses exist on sm_86 (`.address_size 64`)",
                        );
                    }
                }
                Token::Dot("file") => {
                    self.next();
                    let number = self.small("a file number")?;
                    let Token::Str(file) = self.next() else {
                        return self.error("expected a file name in quotes");
                    };
                    tree.files.push((number, file.to_owned()));
                    while self.eat(b',') {
                        self.unsigned("a time stamp or size")?;
                    }
                }
                Token::Dot("section") => {
                    self.next();
                    self.next();
                    self.skip_braces()?;
                }
                Token::Dot("pragma") => self.pragma()?,
                Token::Dot("loc") => {
                    self.location()?;
                }
                Token::Dot("alias") => {
                    self.next();
                    let new = self.ident("a function name")?.to_owned();
                    self.expect(b',')?;
                    let old = self.ident("a function name")?.to_owned();
                    self.expect(b';')?;
                    tree.aliases.push((new, old));
                }
                Token::Dot(_) => {
                    let linkage = self.linkage();
                    match self.peek() {
                        Token::Dot("entry" | "func") => tree.functions.push(self.function()?),
                        _ => tree.variables.append(&mut self.variables(linkage)?),
                    }
                }
                _ => return self.expected("a directive"),
            }
        }
        if tree.target.is_empty() {
            return self.error("the module has no `.target`");
        }
        Ok(tree)
    }

    fn linkage(&mut self) -> Linkage {
        let mut linkage = Linkage::Internal;
        loop {
            linkage = match self.peek() {
                Token::Dot("extern") => Linkage::Extern,
                Token::Dot("visible") => Linkage::Visible,
                Token::Dot("weak") => Linkage::Weak,
                Token::Dot("common") => Linkage::Common,
                _ => return linkage,
            };
            self.next();
        }
    }

    fn skip_braces(&mut self) -> Result<()> {
        self.expect(b'{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Token::Punct(b'{') => depth += 1,
                Token::Punct(b'}') => depth -= 1,
                Token::End => return self.error("this section has no closing brace"),
                _ => {}
            }
        }
        Ok(())
    }

    fn pragma(&mut self) -> Result<()> {
        self.next();
        loop {
            let Token::Str(_) = self.next() else {
                return self.error("expected a pragma in quotes");
            };
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b';')
    }

    /// `.loc file line column [, function_name label[+n]] [, inlined_at file line column]`. A
    /// report names the line itself, not the line that it was inlined at.
    fn location(&mut self) -> Result<Location> {
        self.next();
        let file = self.small("a file number")?;
        let line = self.small("a line")?;
        if let Token::Int(..) = self.peek() {
            self.next();
        }
        while self.eat(b',') {
            match self.ident("`function_name` or `inlined_at`")? {
                "function_name" => {
                    match self.next() {
                        Token::Ident(_) | Token::Dot(_) => {}
                        _ => return self.error("expected a label after `function_name`"),
                    }
                    if self.eat(b'+') {
                        self.unsigned("an offset")?;
                    }
                }
                "inlined_at" => {
                    for what in ["a file number", "a line", "a column"] {
                        self.unsigned(what)?;
                    }
                }
                other => return self.error(format!("`.loc` has no attribute `{other}`")),
            }
        }
        self.eat(b';');
        Ok(Location { file, line })
    }

    fn space(&mut self) -> Option<StateSpace> {
        let Token::Dot(word) = self.peek() else {
            return None;
        };
        let space = match word {
            "reg" => StateSpace::Reg,
            "param" => StateSpace::Param,
            "shared" | "shared::cta" => StateSpace::Shared,
            "local" => StateSpace::Local,
            "global" => StateSpace::Global,
            "const" => StateSpace::Const,
            _ => return None,
        };
        self.next();
        Some(space)
    }

    /// One declaration, with every variable of its comma-separated list.
    fn variables(&mut self, linkage: Linkage) -> Result<Vec<Variable>> {
        let at = self.pos();
        let Some(space) = self.space() else {
            if let Token::Dot(word @ ("texref" | "samplerref" | "surfref" | "tex")) = self.peek() {
                return self.unsupported(
                    at,
                    format!("`.{word}`: textures and surfaces are not modelled"),
                );
            }
            return match self.peek() {
                Token::Dot(word) => self.unsupported(at, format!("unknown directive `.{word}`")),
                _ => self.expected("a directive"),
            };
        };
        let mut out = Vec::new();
        let first = self.declarator(linkage, space, at)?;
        let (align, vector, ty) = (first.align, first.vector, first.ty);
        out.push(first);
        while self.eat(b',') {
            let pos = self.pos();
            let mut v = Variable {
                pos,
                linkage,
                space,
                align,
                vector,
                ty,
                name: String::new(),
                bank: None,
                dims: Vec::new(),
                init: None,
            };
            self.named(&mut v)?;
            out.push(v);
        }
        self.expect(b';')?;
        Ok(out)
    }

    /// `.align 16 .v4 .b8 name[10] = {…}`, from after the state space.
    fn declarator(&mut self, linkage: Linkage, space: StateSpace, pos: Pos) -> Result<Variable> {
        let (mut align, mut vector, mut ty) = (None, 1, None);
        loop {
            match self.peek() {
                Token::Dot("align") => {
                    self.next();
                    let value = self.small("an alignment")?;
                    if !value.is_power_of_two() || value > 1 << 16 {
                        return self.error(format!(
                            "the alignment {value} is not a power of two up to 65536"
                        ));
                    }
                    align = Some(value);
                }
                Token::Dot("v2") => {
                    self.next();
                    vector = 2;
                }
                Token::Dot("v4") => {
                    self.next();
                    vector = 4;
                }
                Token::Dot("attribute") => {
                    self.next();
                    self.expect(b'(')?;
                    while !self.eat(b')') {
                        if self.next() == Token::End {
                            return self.error("this attribute list has no end");
                        }
                    }
                }
                Token::Dot("ptr") => {
                    self.next();
                    self.space();
                }
                Token::Dot(word) => match Type::parse(word) {
                    Some(t) if ty.is_none() => {
                        self.next();
                        ty = Some(t);
                    }
                    _ => {
                        let at = self.pos();
                        return self
                            .unsupported(at, format!("`.{word}` has no meaning in a declaration"));
                    }
                },
                _ => break,
            }
        }
        let Some(ty) = ty else {
            return self.expected("a type");
        };
        let mut v = Variable {
            pos,
            linkage,
            space,
            align,
            vector,
            ty,
            name: String::new(),
            bank: None,
            dims: Vec::new(),
            init: None,
        };
        self.named(&mut v)?;
        Ok(v)
    }

    fn named(&mut self, v: &mut Variable) -> Result<()> {
        v.name = self.ident("a name")?.to_owned();
        if self.eat(b'<') {
            v.bank = Some(self.small("a register count")?);
            self.expect(b'>')?;
        }
        while self.eat(b'[') {
            let dim = if self.peek() == Token::Punct(b']') {
                0
            } else {
                self.unsigned("an array size")?
            };
            v.dims.push(dim);
            self.expect(b']')?;
        }
        if self.eat(b'=') {
            v.init = Some(self.init()?);
        }
        Ok(())
    }

    fn init(&mut self) -> Result<Init> {
        let pos = self.pos();
        match self.peek() {
            Token::Punct(b'{') => {
                self.next();
                self.deeper()?;
                let mut list = Vec::new();
                while !self.eat(b'}') {
                    list.push(self.init()?);
                    if !self.eat(b',') {
                        self.expect(b'}')?;
                        break;
                    }
                }
                self.depth -= 1;
                Ok(Init::List(list))
            }
            Token::Ident("generic") if self.peek_at(1) == Token::Punct(b'(') => {
                self.next();
                self.next();
                let symbol = self.ident("a variable")?.to_owned();
                let mut addend = self.addend()?;
                self.expect(b')')?;
                addend = addend.wrapping_add(self.addend()?);
                Ok(Init::Address {
                    symbol,
                    addend,
                    mask: None,
                    pos,
                })
            }
            Token::Ident(symbol) => {
                self.next();
                let addend = self.addend()?;
                Ok(Init::Address {
                    symbol: symbol.to_owned(),
                    addend,
                    mask: None,
                    pos,
                })
            }
            Token::Int(mask, _) if self.peek_at(1) == Token::Punct(b'(') => {
                self.next();
                self.next();
                let inner = self.init()?;
                self.expect(b')')?;
                match inner {
                    Init::Address {
                        symbol,
                        addend,
                        mask: None,
                        ..
                    } => Ok(Init::Address {
                        symbol,
                        addend,
                        mask: Some(mask),
                        pos,
                    }),
                    _ => self.error("a mask applies to an address"),
                }
            }
            _ => Ok(Init::Number(self.number()?)),
        }
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.error(format!("nested deeper than {MAX_DEPTH}"))
        } else {
            Ok(())
        }
    }

    /// `+4`, `-4`, `+-4`, `+4*2`, or nothing.
    fn addend(&mut self) -> Result<i64> {
        let mut total = 0i64;
        loop {
            let sign = match self.peek() {
                Token::Punct(b'+') => 1i64,
                Token::Punct(b'-') => -1,
                _ => return Ok(total),
            };
            self.next();
            // Operators that bind tighter than the sign apply first.
            let Number::Int(value) = self.expression(10)? else {
                return self.error("an offset is an integer");
            };
            total = total.wrapping_add((value as i64).wrapping_mul(sign));
        }
    }

    /// A literal or a constant expression.
    fn number(&mut self) -> Result<Number> {
        let condition = self.expression(1)?;
        if !self.eat(b'?') {
            return Ok(condition);
        }
        self.deeper()?;
        let yes = self.number()?;
        self.expect(b':')?;
        let no = self.number()?;
        self.depth -= 1;
        Ok(match condition {
            Number::Int(0) => no,
            _ => yes,
        })
    }

    /// The operator that comes next, how tightly it binds, and its tokens.
    fn operator(&self) -> Option<(&'static str, u32, usize)> {
        let Token::Punct(first) = self.peek() else {
            return None;
        };
        // Two characters make one operator if nothing lies between them.
        let adjoining = self.tokens.get(self.at + 1).is_some_and(|(_, pos)| {
            pos.line == self.pos().line && pos.column == self.pos().column + 1
        });
        let second = match self.peek_at(1) {
            Token::Punct(c) if adjoining => c,
            _ => 0,
        };
        Some(match (first, second) {
            (b'|', b'|') => ("||", 1, 2),
            (b'&', b'&') => ("&&", 2, 2),
            (b'=', b'=') => ("==", 6, 2),
            (b'!', b'=') => ("!=", 6, 2),
            (b'<', b'=') => ("<=", 7, 2),
            (b'>', b'=') => (">=", 7, 2),
            (b'<', b'<') => ("<<", 8, 2),
            (b'>', b'>') => (">>", 8, 2),
            (b'|', _) => ("|", 3, 1),
            (b'^', _) => ("^", 4, 1),
            (b'&', _) => ("&", 5, 1),
            (b'<', _) => ("<", 7, 1),
            (b'>', _) => (">", 7, 1),
            (b'+', _) => ("+", 9, 1),
            (b'-', _) => ("-", 9, 1),
            (b'*', _) => ("*", 10, 1),
            (b'/', _) => ("/", 10, 1),
            _ => return None,
        })
    }

    /// A constant expression whose operators bind at least as tightly as `least`. Integers have 64 bits.
    fn expression(&mut self, least: u32) -> Result<Number> {
        let mut left = self.unary()?;
        while let Some((operator, tightness, tokens)) = self.operator() {
            if tightness < least {
                break;
            }
            self.at += tokens;
            self.deeper()?;
            let right = self.expression(tightness + 1)?;
            self.depth -= 1;
            left = match (left, right) {
                (Number::Int(a), Number::Int(b)) => match integer_operation(operator, a, b) {
                    Some(v) => Number::Int(v),
                    None => return self.error("a division by zero in a constant expression"),
                },
                (Number::F64(a), Number::F64(b)) => Number::F64(match operator {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => a * b,
                    "/" => a / b,
                    _ => return self.error(format!("`{operator}` between floating-point numbers")),
                }),
                _ => return self.error("a constant expression of different kinds of numbers"),
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Number> {
        let operator = match self.peek() {
            Token::Punct(c @ (b'-' | b'+' | b'!' | b'~' | b'(')) => c,
            _ => return self.magnitude(false),
        };
        self.next();
        self.deeper()?;
        let value = match operator {
            b'(' => {
                // A cast changes how a value is read only where it would be ambiguous.
                if let Token::Dot("u64" | "s64") = self.peek() {
                    self.next();
                    self.expect(b')')?;
                    self.unary()?
                } else {
                    let value = self.number()?;
                    self.expect(b')')?;
                    value
                }
            }
            b'-' => match self.peek() {
                Token::Punct(_) => match self.unary()? {
                    Number::Int(v) => Number::Int(v.wrapping_neg()),
                    Number::F32(v) => Number::F32(v ^ 0x8000_0000),
                    Number::F64(v) => Number::F64(-v),
                },
                _ => self.magnitude(true)?,
            },
            b'+' => self.unary()?,
            _ => match (operator, self.unary()?) {
                (b'!', Number::Int(v)) => Number::Int(i128::from(v == 0)),
                (_, Number::Int(v)) => Number::Int(i128::from(!(v as i64))),
                _ => return self.error("a bit operation on a floating-point number"),
            },
        };
        self.depth -= 1;
        Ok(value)
    }

    fn magnitude(&mut self, negative: bool) -> Result<Number> {
        let number = match self.peek() {
            Token::Int(v, _) => Number::Int(if negative { -(v as i128) } else { v as i128 }),
            Token::F32(v) => Number::F32(if negative { v ^ 0x8000_0000 } else { v }),
            Token::F64(v) => Number::F64(if negative { -v } else { v }),
            Token::Ident("WARP_SZ") => Number::Int(32),
            _ => return self.expected("a number"),
        };
        self.next();
        Ok(number)
    }

    fn parameters(&mut self) -> Result<Vec<Variable>> {
        let mut out = Vec::new();
        self.expect(b'(')?;
        if self.eat(b')') {
            return Ok(out);
        }
        loop {
            let pos = self.pos();
            let Some(space) = self.space() else {
                return self.expected("`.param` or `.reg`");
            };
            if !matches!(space, StateSpace::Param | StateSpace::Reg) {
                return self.error("a parameter lives in `.param` or `.reg`");
            }
            out.push(self.declarator(Linkage::Internal, space, pos)?);
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b')')?;
        Ok(out)
    }

    fn triple(&mut self) -> Result<[u32; 3]> {
        let mut out = [1; 3];
        out[0] = self.small("a thread count")?;
        for slot in &mut out[1..] {
            if self.eat(b',') {
                *slot = self.small("a thread count")?;
            }
        }
        Ok(out)
    }

    fn function(&mut self) -> Result<PtxFunction> {
        let is_kernel = self.next() == Token::Dot("entry");
        let pos = self.pos();
        let mut returns = Vec::new();
        if self.peek() == Token::Punct(b'(') {
            returns = self.parameters()?;
        }
        let name = self.ident("a function name")?.to_owned();
        let params = if self.peek() == Token::Punct(b'(') {
            self.parameters()?
        } else {
            Vec::new()
        };
        let mut f = PtxFunction {
            pos,
            name,
            is_kernel,
            params,
            returns,
            max_threads: None,
            required_threads: None,
            min_blocks_per_sm: None,
            max_registers: None,
            body: None,
        };
        loop {
            let at = self.pos();
            match self.peek() {
                Token::Punct(b';') => {
                    self.next();
                    return Ok(f);
                }
                Token::Punct(b'{') => {
                    self.next();
                    f.body = Some(self.block()?);
                    return Ok(f);
                }
                Token::Dot(word) => {
                    self.next();
                    match word {
                        "maxntid" => f.max_threads = Some(self.triple()?),
                        "reqntid" => f.required_threads = Some(self.triple()?),
                        "minnctapersm" => f.min_blocks_per_sm = Some(self.small("a block count")?),
                        "maxnctapersm" => {
                            self.small("a block count")?;
                        }
                        "maxnreg" => f.max_registers = Some(self.small("a register count")?),
                        "noreturn" => {}
                        "pragma" => {
                            self.at -= 1;
                            self.pragma()?;
                        }
                        _ => {
                            return self
                                .unsupported(at, format!("unknown function directive `.{word}`"));
                        }
                    }
                }
                Token::End => return self.error("the text ends inside a function"),
                _ => return self.expected("`{`, `;` or a function directive"),
            }
        }
    }

    fn block(&mut self) -> Result<Vec<Statement>> {
        self.deeper()?;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::Punct(b'}') => {
                    self.next();
                    self.depth -= 1;
                    return Ok(out);
                }
                Token::Punct(b'{') => {
                    self.next();
                    out.push(Statement::Block(self.block()?));
                }
                Token::Punct(b';') => {
                    self.next();
                }
                Token::Dot("loc") => {
                    let location = self.location()?;
                    out.push(Statement::Loc(location));
                }
                Token::Dot("pragma") => self.pragma()?,
                Token::Dot("file") => return self.error("`.file` stands outside of functions"),
                Token::Dot(_) => {
                    let linkage = self.linkage();
                    for v in self.variables(linkage)? {
                        out.push(Statement::Variable(v));
                    }
                }
                Token::Ident(name) if self.peek_at(1) == Token::Punct(b':') => {
                    self.next();
                    self.next();
                    out.push(self.labelled(name)?);
                }
                Token::Ident(_) | Token::Punct(b'@') => {
                    let instruction = self.instruction()?;
                    out.push(Statement::Instruction(instruction));
                }
                Token::End => {
                    return self.error("the text ends inside a function: a `}` is missing");
                }
                _ => return self.expected("a statement"),
            }
        }
    }

    fn labelled(&mut self, name: &str) -> Result<Statement> {
        let statement = match self.peek() {
            Token::Dot("branchtargets") => {
                self.next();
                Statement::BranchTargets(name.to_owned(), self.names("a label")?)
            }
            Token::Dot("calltargets") => {
                self.next();
                self.names("a function")?;
                Statement::Prototype(name.to_owned())
            }
            Token::Dot("callprototype") => {
                self.next();
                if self.peek() == Token::Punct(b'(') {
                    self.parameters()?;
                }
                self.ident("`_`")?;
                if self.peek() == Token::Punct(b'(') {
                    self.parameters()?;
                }
                while let Token::Dot("noreturn") = self.peek() {
                    self.next();
                }
                Statement::Prototype(name.to_owned())
            }
            _ => return Ok(Statement::Label(name.to_owned())),
        };
        self.expect(b';')?;
        Ok(statement)
    }

    fn names(&mut self, what: &str) -> Result<Vec<String>> {
        let mut out = vec![self.ident(what)?.to_owned()];
        while self.eat(b',') {
            out.push(self.ident(what)?.to_owned());
        }
        Ok(out)
    }

    fn instruction(&mut self) -> Result<Instruction> {
        let mut guard = None;
        if self.eat(b'@') {
            let negated = self.eat(b'!');
            guard = Some(Guard {
                name: self.ident("a predicate register")?.to_owned(),
                negated,
            });
        }
        let pos = self.pos();
        let opcode = self.ident("an opcode")?.to_owned();
        let mut modifiers = Vec::new();
        while let Token::Dot(word) = self.peek() {
            self.next();
            modifiers.push(word.to_owned());
        }
        let mut operands = Vec::new();
        self.lists = opcode == "call";
        if self.peek() != Token::Punct(b';') {
            loop {
                operands.push(self.operand().map_err(|e| match e.kind {
                    LoadErrorKind::Unsupported => LoadError {
                        message: format!("`{opcode}.{}`: {}", modifiers.join("."), e.message),
                        ..e
                    },
                    _ => e,
                })?);
                if !self.eat(b',') {
                    break;
                }
            }
        }
        self.expect(b';')?;
        Ok(Instruction {
            pos,
            guard,
            opcode,
            modifiers,
            operands,
        })
    }

    fn operand(&mut self) -> Result<Operand> {
        let first = self.simple_operand()?;
        if self.eat(b'|') {
            let second = self.simple_operand()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn simple_operand(&mut self) -> Result<Operand> {
        match self.peek() {
            Token::Ident("_") => {
                self.next();
                Ok(Operand::Sink)
            }
            Token::Ident("WARP_SZ") => Ok(Operand::Number(self.number()?)),
            Token::Ident(name) => {
                self.next();
                let mut name = name.to_owned();
                if let Token::Dot(component) = self.peek() {
                    self.next();
                    name.push('.');
                    name.push_str(component);
                }
                let offset = self.addend()?;
                Ok(Operand::Name { name, offset })
            }
            Token::Punct(b'!') if matches!(self.peek_at(1), Token::Ident(_)) => {
                self.next();
                Ok(Operand::Not(self.ident("a predicate register")?.to_owned()))
            }
            Token::Punct(b'-') => {
                self.next();
                let Token::Ident(name) = self.peek() else {
                    self.at -= 1;
                    return Ok(Operand::Number(self.number()?));
                };
                if name == "WARP_SZ" {
                    return Ok(Operand::Number(self.magnitude(true)?));
                }
                self.next();
                let mut name = name.to_owned();
                if let Token::Dot(component) = self.peek() {
                    self.next();
                    name.push('.');
                    name.push_str(component);
                }
                Ok(Operand::Negated(name))
            }
            Token::Punct(b'{') => {
                self.next();
                let list = self.list(b'}')?;
                Ok(Operand::Vector(list))
            }
            Token::Punct(b'(') if self.lists => {
                self.next();
                let list = self.list(b')')?;
                Ok(Operand::List(list))
            }
            Token::Punct(b'[') => {
                self.next();
                let base = match self.peek() {
                    Token::Ident(name) => {
                        self.next();
                        let mut name = name.to_owned();
                        if let Token::Dot(component) = self.peek() {
                            self.next();
                            name.push('.');
                            name.push_str(component);
                        }
                        Some(name)
                    }
                    _ => None,
                };
                let offset = match (&base, self.peek()) {
                    (None, Token::Int(v, _)) => {
                        self.next();
                        (v as i64).wrapping_add(self.addend()?)
                    }
                    _ => self.addend()?,
                };
                if self.peek() == Token::Punct(b',') {
                    return self.unsupported(
                        self.pos(),
                        "addresses with coordinates belong to textures, surfaces and tensor maps",
                    );
                }
                self.expect(b']')?;
                Ok(Operand::Address { base, offset })
            }
            _ => Ok(Operand::Number(self.number()?)),
        }
    }

    fn list(&mut self, close: u8) -> Result<Vec<Operand>> {
        self.deeper()?;
        let mut out = Vec::new();
        if !self.eat(close) {
            loop {
                out.push(self.operand()?);
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(close)?;
        }
        self.depth -= 1;
        Ok(out)
    }
}

/// An operator on two 64-bit integers; none for a division by zero.
fn integer_operation(operator: &str, a: i128, b: i128) -> Option<i128> {
    let (x, y) = (a as i64, b as i64);
    Some(i128::from(match operator {
        "+" => x.wrapping_add(y),
        "-" => x.wrapping_sub(y),
        "*" => x.wrapping_mul(y),
        "/" => x.checked_div(y)?,
        "<<" => x.checked_shl(b as u32).unwrap_or(0),
        ">>" => x
            .checked_shr(b as u32)
            .unwrap_or(if x < 0 { -1 } else { 0 }),
        "&" => x & y,
        "|" => x | y,
        "^" => x ^ y,
        "&&" => i64::from(x != 0 && y != 0),
        "||" => i64::from(x != 0 || y != 0),
        "==" => i64::from(a == b),
        "!=" => i64::from(a != b),
        "<" => i64::from(a < b),
        "<=" => i64::from(a <= b),
        ">" => i64::from(a > b),
        _ => i64::from(a >= b),
    }))
}
